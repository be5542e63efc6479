"""What cannot follow into a forked process: threads, locks and devices of the process that it was forked from."""

import os

from duplex.errors import ForkError

__all__ = ["OwnProcess"]


class OwnProcess:
    """The process in which something was made."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def forked(self) -> bool:
        """Whether this is another process, forked from that one."""
        return os.getpid() != self._pid

    def check(self, what: str) -> None:
        """Check that this is that process.

        :raises ForkError: if not
        """
        if self.forked:
            raise ForkError(
                f"{what} was made before this process was forked, and its threads have stayed behind; load the model "
                "in the process that uses it: after the fork (gunicorn without --preload), or in one started with "
                "multiprocessing's 'spawn'"
            )
