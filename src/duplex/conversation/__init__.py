"""Conversations as their applications see them: on a model of this process or on a server."""
