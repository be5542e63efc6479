"""What cannot follow into a forked process: threads, locks and devices of the process that it was forked from."""

import os

import attrs

from duplex.errors import ForkError

__all__ = ["OwnProcess"]


@attrs.define
class _Forks:
    """Forks up to this process: Python tells of them, where the kernel would be asked several times for each frame."""

    count: int = 0

    def add(self) -> None:
        self.count += 1


_forks = _Forks()
if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_forks.add)


class OwnProcess:
    """The process in which something was made."""

    def __init__(self) -> None:
        self._made = _forks.count

    @property
    def forked(self) -> bool:
        """Whether this is another process, forked from that one."""
        return _forks.count != self._made

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
