"""Progress bars on standard error; nothing where that is no terminal."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from duplex.cli.text import plain

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["FileBars", "TrainingBar"]

MAX_NAME_CHARACTERS = 40


class FileBars:
    """A bar for each file that runs, and one for all of them if there are several; figures are seconds of audio.

    What is to be printed meanwhile goes through :meth:`after`: at once without bars, else when they are gone.
    """

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 -- rich takes a tenth of a second to import

        self._console: Any = Console(stderr=True)
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._total: TaskID | None = None
        self._later: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            from rich import progress  # noqa: PLC0415

            self._bars = progress.Progress(
                progress.TextColumn("{task.description}", markup=False),
                progress.BarColumn(bar_width=None),
                progress.TaskProgressColumn(show_speed=False),
                progress.TextColumn("{task.completed:.0f} s", markup=False),
                progress.TimeRemainingColumn(compact=True),
                console=self._console,
                transient=True,
                # Standard output may lead elsewhere, and must not be drawn into the bars' terminal.
                redirect_stdout=False,
                redirect_stderr=False,
                expand=True,
            )
            self._total = self._bars.add_task("total", total=None, start=True)
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        for action in self._later:
            action()

    def after(self, action: Callable[[], None]) -> None:
        """Have something printed where it does not run into the bars."""
        if self._bars is None:
            action()
        else:
            self._later.append(action)

    def update(self, name: str, seconds: float, duration: float | None, *, over: bool = False) -> None:
        """Show how far one file is; a file that is over has no bar any more."""
        if self._bars is None:
            return
        if over:
            if name in self._tasks:
                self._bars.remove_task(self._tasks.pop(name))
            return
        if name not in self._tasks:
            shown = plain(name)
            shown = shown if len(shown) <= MAX_NAME_CHARACTERS else f"...{shown[3 - MAX_NAME_CHARACTERS :]}"
            self._tasks[name] = self._bars.add_task(shown, total=duration)
        self._bars.update(self._tasks[name], completed=seconds, total=duration)

    def update_total(self, seconds: float, duration: float | None) -> None:
        """Show how far all files are."""
        if self._bars is not None and self._total is not None:
            self._bars.update(self._total, completed=seconds, total=duration)


class TrainingBar:
    """One bar that counts ``unit``, with a remark behind it; without a terminal, a line every minute.

    One that is not ``shown`` says nothing: another process tells how far they are.
    """

    SECONDS_BETWEEN_LINES = 60.0

    def __init__(self, unit: str, *, shown: bool = True) -> None:
        from rich.console import Console  # noqa: PLC0415 -- rich takes a tenth of a second to import

        self._unit = unit
        self._console: Any = Console(stderr=True, quiet=not shown)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._said_at = time.monotonic()

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.quiet:
            from rich import progress  # noqa: PLC0415

            self._bar = progress.Progress(
                progress.BarColumn(bar_width=None),
                progress.MofNCompleteColumn(),
                progress.TextColumn(self._unit),
                progress.TimeRemainingColumn(),
                progress.TextColumn("{task.description}", markup=False),
                console=self._console,
                transient=True,
                expand=True,
            )
            self._task = self._bar.add_task("", total=None)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, total: int, remark: str = "") -> None:
        """Show how far it is."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, description=remark)
        elif time.monotonic() - self._said_at >= self.SECONDS_BETWEEN_LINES:
            self._said_at = time.monotonic()
            self._console.print(f"{done}/{total} {self._unit}  {remark}".rstrip(), markup=False, highlight=False)
