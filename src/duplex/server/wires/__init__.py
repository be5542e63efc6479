"""The protocols that callers speak, one module each: what arrives becomes actions, what happens becomes messages."""
