"""Calls that move: what is kept of a conversation so that another server, or this one later, can go on with it."""
