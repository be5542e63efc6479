"""A conversation with a person at this machine: the call, what is shown of it, and its recordings."""
