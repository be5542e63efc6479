"""The models of a server, by the names that callers choose them by."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import anyio
import anyio.to_thread
import attrs

from duplex.checkpoints.voices import Voices
from duplex.engine.model import Model
from duplex.errors import AudioFileError, UsageError
from duplex.events import JsonValue
from duplex.options import SessionOptions
from duplex.parsing import shown
from duplex.prompting.building import TAKES_PERSONA, check_persona, check_prompt
from duplex.prompting.voices import find_speaker
from duplex.server.admission import Admission, Door
from duplex.server.settings import Settings
from duplex.server.wires.base import CallDescription, CallRequest
from duplex.transcription.words import placement_of, words_of

__all__ = ["Agreed", "ServedModel", "ServedModels"]


@attrs.frozen
class ServedModel:
    """A model, what callers call it, and who talks to it."""

    name: str
    model: Model
    admission: Door
    voices: Voices
    """Those that callers may name."""
    examples: tuple[str, ...]
    """What a caller may say."""
    seconds: float | None
    """That a conversation may last, if there is a limit."""
    _checking: anyio.CapacityLimiter = attrs.field(factory=lambda: anyio.CapacityLimiter(1))
    """Voices are read one at a time: callers who come by the dozen take one core at most from conversations."""

    @property
    def takes_persona(self) -> bool:
        """Whether callers may give instructions and a voice."""
        return self.model.spec.kind in TAKES_PERSONA

    @property
    def speaks(self) -> bool:
        """Whether it has a voice, which is synthetic, and does not only write down what it hears."""
        return self.model.spec.agent_streams > 0

    async def describe(self, request: CallRequest, left_out: Sequence[str] = ()) -> CallDescription:
        """Return what a caller gets of what was asked for, without what has been ``left_out`` already.

        All of it is checked that can be told without a step of the model.

        :raises UsageError: if something cannot be had, and the request is not lenient
        :raises AudioFileError: if the voice cannot be read, and the request is not lenient
        """
        options, left_out = request.options, list(left_out)
        for word in ("instructions", "voice", "adapter"):
            chosen = getattr(options, word)
            if chosen is None:
                continue
            try:
                await self._check(SessionOptions(**{word: chosen}))
            except (UsageError, AudioFileError) as error:
                if not (request.lenient or request.persona_optional):
                    raise
                left_out.append(str(error))
                options = attrs.evolve(options, **{word: None})
        spec, placement = self.model.spec, placement_of(self.model)
        if request.flush_on_pause and placement is None:
            raise UsageError(f"{self.name} recognises no speech, so nothing is to flush; leave flush_on_pause out")
        return CallDescription(
            model=self.name,
            sample_rate=spec.sample_rate,
            frame_duration=spec.frame_duration,
            options=options,
            left_out=tuple(left_out),
            recognition=placement is not None,
            placement=placement,
            words=None if placement is None else partial(words_of, self.model, placement),
            seconds=self.seconds,
        )

    async def _check(self, options: SessionOptions) -> None:
        check_persona(self.model.spec.kind, options)
        self.model.check_adapter(options)
        if options.instructions is None and options.voice is None:
            return
        model = self.model
        check = partial(check_prompt, model.spec, model.tokenizer, self.voices, options, files=False)
        await anyio.to_thread.run_sync(check, limiter=self._checking)

    @property
    def hears(self) -> bool:
        """Whether callers may talk to it; the others say texts."""
        return self.model.tts is None

    async def speaking_voice(self, name: str | None) -> Path | None:
        """Return the file of a voice that says texts, which a caller has named; ``None`` for none.

        :raises UsageError: if there is none of this name
        """
        if name is None:
            return None
        find = partial(find_speaker, self.voices, name, files=False)
        return await anyio.to_thread.run_sync(find, limiter=self._checking)

    @property
    def state(self) -> str:
        """``ready``, or why it is not: ``draining``, ``closed`` or ``stalled`` (the model), ``full``."""
        if self.admission.draining:
            return "draining"
        if self.model.closed:
            return "closed"
        if self.model.seating.late:
            return "stalled"
        return "full" if self.admission.full else "ready"


Agreed: TypeAlias = tuple[CallRequest, ServedModel, CallDescription]
"""What a caller has asked for, and gets."""


class ServedModels:
    """The models of one server; the first is the one of callers who do not choose.

    :raises UsageError: if there is none, or two have the same name
    :raises CheckpointError: if the voices of one cannot be unpacked
    """

    def __init__(
        self, models: Sequence[Model], settings: Settings, doors: Callable[[Model], Door] | None = None
    ) -> None:
        """Make them; ``doors`` gives each its admission, where that is not counted here."""
        if not models:
            raise UsageError("a server needs a model; give one or more")
        calls_of: Counter[str] = Counter()
        self._served: dict[str, ServedModel] = {}
        for model in models:
            name = _public_name(model)
            if name in self._served:
                raise UsageError(f"two models are called {shown(name)}; serve one, or rename the folder of the other")
            admission = (
                Admission(model.sessions, settings.queue, settings.per_address, calls_of)
                if doors is None
                else doors(model)
            )
            voices = model.voices if settings.voices is None else model.voices.beside(settings.voices)
            seconds = settings.session_limit or None
            self._served[name] = served = ServedModel(name, model, admission, voices, model.examples, seconds)
            if served.takes_persona or not served.hears:
                _ = voices.names  # what is wrong with an archive shows now, and not to a caller

        self.memory: Sequence[JsonValue] = _memory(models)
        """What was predicted for them, by device."""

    @property
    def all(self) -> Sequence[ServedModel]:
        """In the order given."""
        return tuple(self._served.values())

    @property
    def default(self) -> ServedModel:
        """The first that hears, if one does."""
        return next((each for each in self.all if each.hears), self.all[0])

    @property
    def hearing(self) -> Sequence[ServedModel]:
        """Those that callers may talk to."""
        return [each for each in self.all if each.hears]

    @property
    def speaking(self) -> Sequence[ServedModel]:
        """Those that say texts."""
        return [each for each in self.all if not each.hears]

    @property
    def speak(self) -> bool:
        """Whether any of them has a voice."""
        return any(each.speaks for each in self.all)

    def find(self, name: str | None, *, recognition: bool = False) -> ServedModel:
        """Return the model that a caller has chosen, or the default: for ``recognition`` the first that recognises.

        :raises UsageError: if there is none of that name, none that recognises speech, or it hears nothing
        """
        if recognition:
            return self._find_recognizer(name)
        found = self._named(name) if name else self.default
        if not found.hears:
            raise UsageError(f"{found.name} says texts and hears nothing; POST what it shall say to /v1/audio/speech")
        return found

    def find_speaking(self, name: str | None) -> ServedModel:
        """Return the model that says texts which a client has chosen, or the first.

        :raises UsageError: if there is none of that name, or it says no texts
        """
        found = self._named(name) if name else next(iter(self.speaking), self.default)
        if found.hears:
            known = ", ".join(each.name for each in self.speaking) or "no model that does"
            raise UsageError(f"{found.name} ({found.model.spec.kind}) says no texts; this server has {known}")
        return found

    def _named(self, name: str) -> ServedModel:
        if name not in self._served:
            known = ", ".join(self._served)
            raise UsageError(f"there is no model {shown(name)} here; this server has {known}")
        return self._served[name]

    def _find_recognizer(self, name: str | None) -> ServedModel:
        given = [self._named(name)] if name else self.all
        found = next((each for each in given if placement_of(each.model) is not None), None)
        if found is None:
            whose = f"{shown(name)} recognises no speech" if name else "no model of this server recognises speech"
            raise UsageError(f"{whose}; serve or choose one that does, such as kyutai/stt-1b-en_fr")
        return found

    async def settle(self, request: CallRequest) -> Agreed:
        """Return what was asked for, the model that a caller gets, and what of it.

        :raises UsageError: if something cannot be had, and the request is not lenient
        :raises AudioFileError: if the voice cannot be read, and the request is not lenient
        """
        left_out: list[str] = []
        try:
            served = self.find(request.model, recognition=request.recognition)
        except UsageError as error:
            if not request.lenient or not self.hearing:
                raise
            served = self.default
            left_out.append(f"{error}; this is {served.name}")
        return request, served, await served.describe(request, left_out)

    @property
    def state(self) -> str:
        """``ready`` if the next caller of some model would be let in and all models answer; otherwise why not."""
        states = [each.state for each in self.all]
        for trouble in ("draining", "closed", "stalled"):
            if trouble in states:
                return trouble
        return "ready" if "ready" in states else "full"


def _memory(models: Sequence[Model]) -> list[JsonValue]:
    """Return what models take of each device, in bytes; those of which nobody knows it are left out."""
    found: dict[str, list[JsonValue]] = {}
    totals: Counter[str] = Counter()
    for model in models:
        if model.memory is not None:
            told: JsonValue = {"name": _public_name(model), "sessions": model.sessions, "bytes": model.memory}
            found.setdefault(model.device, []).append(told)
            totals[model.device] += model.memory
    return [{"device": device, "bytes": totals[device], "models": each} for device, each in found.items()]


def _public_name(model: Model) -> str:
    """Return what callers call a model: of a folder the last part, which tells nothing of where it lies."""
    path = Path(model.name)
    return path.name if path.is_absolute() or path.is_dir() else model.name
