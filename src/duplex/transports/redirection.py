"""What a server says that sends its callers to another one."""

from duplex.errors import ServerError

__all__ = ["RedirectedError"]


class RedirectedError(ServerError):
    """The server redirects its callers (307); ``answer`` is the body of what it said."""

    def __init__(self, message: str, answer: bytes) -> None:
        super().__init__(message)
        self.answer: bytes = answer
