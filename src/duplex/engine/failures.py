"""What a conversation is told of a failure of the model."""

import copy

from duplex.errors import DuplexError, ModelError

__all__ = ["conversation_error"]


def conversation_error(error: Exception) -> Exception:
    """Return the error that a conversation raises for an error of the model; each gets its own copy."""
    if isinstance(error, DuplexError):
        return copy.copy(error)
    failure = ModelError(f"the model failed ({type(error).__name__}: {error}); start the conversation again")
    failure.__cause__ = error
    return failure
