"""What a kind of work is to the cluster: how its inputs are found, what is finished, and who does the rest."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeAlias

import attrs

from duplex.cluster.batch.inputs import Far
from duplex.cluster.batch.items import Found, Item, Payload
from duplex.cluster.batch.places import Place
from duplex.cluster.batch.rows import Row

__all__ = ["Ended", "Heard", "Job", "PassedOver", "Ready", "Runner"]

PassedOver: TypeAlias = Callable[[Path], None]
Heard: TypeAlias = Callable[[float], None]
"""Is told seconds of audio that have been heard since it was told last."""
Ended: TypeAlias = Callable[[Row], None]


@attrs.frozen(kw_only=True)
class Ready:
    """An item, and what it stands for with files of this machine."""

    item: Item
    payload: Payload


Runner: TypeAlias = Callable[[Sequence[Ready], Path, Heard, Ended], Awaitable[None]]
"""Works on what is ready, in a folder of results, and tells the row of each as it ends; what is cancelled has none."""


class Job(Protocol):
    """A kind of work with all that decides its results. It is sent to the workers, so it holds no model."""

    @property
    def figures(self) -> Mapping[str, type]:
        """The columns of the table that are its own, and their types."""
        ...

    @property
    def looks(self) -> bool:
        """Whether what is finished is looked for before a model is loaded."""
        ...

    @property
    def device(self) -> str | None:
        """The device that the model is to run on, ``None`` if there is no model."""
        ...

    @property
    def cpus(self) -> float | None:
        """The cores of a worker without a GPU, ``None`` for all of a machine."""
        ...

    @property
    def side_by_side(self) -> int:
        """How many recordings a worker has in hand at once."""
        ...

    def find(self, local: Sequence[str], far: Sequence[Far], out: str, passed_over: PassedOver | None) -> list[Found]:
        """Return what the inputs stand for, names included. Blocking, on the driver.

        :raises UsageError: if there is nothing
        """
        ...

    def check(self) -> "Job":
        """Return the job as it is on a worker's machine, whose devices are seen; the driver goes on with that.

        :raises DuplexError: if the model cannot run there
        """
        ...

    def marker(self, item: Item) -> str:
        """Return the name of the file that says that an item's results are there."""
        ...

    def look(self, ready: Ready, out: Path) -> Row | None:
        """Return the row of what is finished, or cannot be; ``None`` for what is to be done. Blocking."""
        ...

    def files(self, item: Item, out: Path) -> list[str]:
        """Return the files of results that have just been written, the marker last."""
        ...

    def opened(self) -> AbstractContextManager[Runner]:
        """Give what does the work, with the model loaded."""
        ...

    def finish(self, place: Place, rows: Sequence[Row]) -> None:
        """Write what is made of all results. Blocking, on the driver.

        :raises OutputError: if it cannot be written
        """
        ...
