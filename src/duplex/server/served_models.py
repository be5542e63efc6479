"""The models of a server, by the names that callers choose them by."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import attrs

from duplex.checkpoints.voices import Voices
from duplex.engine.model import Model
from duplex.errors import UsageError
from duplex.options import SessionOptions
from duplex.parsing import shown
from duplex.prompting.building import TAKES_PERSONA, check_persona
from duplex.prompting.voices import find_voice
from duplex.server.admission import Admission
from duplex.server.settings import Settings

__all__ = ["ServedModel", "ServedModels"]


@attrs.frozen
class ServedModel:
    """A model, what callers call it, and who talks to it."""

    name: str
    model: Model
    admission: Admission
    voices: Voices
    """Those that callers may name."""
    examples: tuple[str, ...]
    """What a caller may say."""

    @property
    def takes_persona(self) -> bool:
        """Whether callers may give instructions and a voice."""
        return self.model.spec.kind in TAKES_PERSONA

    def check(self, options: SessionOptions) -> None:
        """Check what a caller has chosen.

        :raises UsageError: if the model takes no persona, or there is no such voice
        """
        check_persona(self.model.spec.kind, options)
        if options.voice is not None:
            find_voice(self.voices, options.voice, files=False)

    @property
    def state(self) -> str:
        """``ready``, or why it is not: ``draining``, ``closed`` or ``stalled`` (the model), ``full``."""
        if self.admission.draining:
            return "draining"
        if self.model.closed:
            return "closed"
        if self.model.engine.watchdog.late:
            return "stalled"
        return "full" if self.admission.full else "ready"


class ServedModels:
    """The models of one server; the first is the one of callers who do not choose.

    :raises UsageError: if there is none, or two have the same name
    """

    def __init__(self, models: Sequence[Model], settings: Settings) -> None:
        if not models:
            raise UsageError("a server needs a model; give one or more")
        calls_of: Counter[str] = Counter()
        self._served: dict[str, ServedModel] = {}
        for model in models:
            name = _public_name(model)
            if model.spec.kind == "tts":
                raise UsageError(f"{name} says texts and hears nothing, so no one can call it; use `duplex say`")
            if name in self._served:
                raise UsageError(f"two models are called {shown(name)}; serve one, or rename the folder of the other")
            admission = Admission(model.sessions, settings.queue, settings.per_address, calls_of)
            voices = model.voices if settings.voices is None else model.voices.beside(settings.voices)
            self._served[name] = ServedModel(name, model, admission, voices, model.examples)

    @property
    def all(self) -> Sequence[ServedModel]:
        """In the order given."""
        return tuple(self._served.values())

    @property
    def default(self) -> ServedModel:
        """The first."""
        return self.all[0]

    def find(self, name: str | None) -> ServedModel:
        """Return the model that a caller has chosen, or the default.

        :raises UsageError: if there is none of that name
        """
        if not name:
            return self.default
        if name not in self._served:
            known = ", ".join(self._served)
            raise UsageError(f"there is no model {shown(name)} here; this server has {known}")
        return self._served[name]

    @property
    def state(self) -> str:
        """``ready`` if the next caller of some model would be let in and all models answer; otherwise why not."""
        states = [each.state for each in self.all]
        for trouble in ("draining", "closed", "stalled"):
            if trouble in states:
                return trouble
        return "ready" if "ready" in states else "full"


def _public_name(model: Model) -> str:
    """Return what callers call a model: of a folder the last part, which tells nothing of where it lies."""
    path = Path(model.name)
    return path.name if path.is_absolute() or path.is_dir() else model.name
