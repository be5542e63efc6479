"""The one protocol that a backend implements, and the values that cross it.

Numpy stands at the border, whatever the backend computes with. A *slot* is one conversation's place in the running
batch: its state is preallocated, and no slot can touch another's. A *frame* is ``frame_size`` samples of the user's
audio going in, and one column of tokens with ``frame_size`` samples of the agent's audio coming out.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.codec import Codec
from duplex.model_spec import UNGENERATED, ZERO, ModelSpec
from duplex.options import SessionOptions

__all__ = [
    "LONGEST_RUN",
    "OPTIONS_KEY",
    "UNGENERATED",
    "ZERO",
    "Conditions",
    "EmbeddedPrefill",
    "EndOfSource",
    "Frame",
    "FrameModel",
    "ModelSpec",
    "ScoresTokens",
    "SessionState",
    "Staged",
    "StepResult",
    "TokenScores",
    "split_columns",
]

LONGEST_RUN = 32
"""Columns of known tokens that go through the temporal transformer in one call at most; its ring has room for them."""
OPTIONS_KEY = "options"
"""Where a state's metadata has the session's options, as JSON."""

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


@attrs.frozen(kw_only=True, eq=False)
class StepResult:
    """What one step gave, a row a slot; rows are meaningful where ``valid``.

    ``time_step`` int64 ``[capacity]`` is the time step that came out. ``pcm`` is float32 ``[capacity, frame_size]``;
    ``text`` int64 ``[capacity]``, ``agent`` int64 ``[capacity, agent_streams]`` and ``user`` int64
    ``[capacity, user_streams]`` are the tokens of that time step. ``heads`` float32
    ``[capacity, extra_heads, extra_classes]`` are the extra heads' probabilities, ``None`` without such heads.
    """

    valid: NDArray[np.bool_]
    time_step: Int64
    pcm: Float32
    text: Int64
    agent: Int64
    user: Int64
    heads: Float32 | None = None
    script: Int64 | None = None
    """Of a model of synthesis how far its texts have come, ``[capacity, 3]``: see ``duplex.synthesis.protocol``."""
    errors: dict[int, Exception] = attrs.Factory(dict[int, Exception])
    """Why a slot could not be stepped, where that is this slot's own: the others were. Its state is not to be used."""


@attrs.frozen(kw_only=True, eq=False)
class Conditions:
    """What a session is conditioned on, for models that have conditioners, each by its name.

    ``words`` are of tables; ``vectors`` float32 ``[n, dim]`` are sequences, of which ``masks`` bool ``[n]`` says what
    is there (all, where there is no mask). A condition that is not named is the learnt padding. ``null`` is what the
    second row of guidance is conditioned on, ``None`` for nothing; ``masked_until`` is for how many steps that row
    reads no tokens, as when a voice is given by a beginning.
    """

    words: Mapping[str, str] = attrs.field(factory=dict[str, str])
    vectors: Mapping[str, Float32] = attrs.field(factory=dict[str, Float32])
    masks: Mapping[str, NDArray[np.bool_]] = attrs.field(factory=dict[str, NDArray[np.bool_]])
    null: "Conditions | None" = None
    masked_until: int = 0

    def dropped(self) -> "Conditions":
        """Return these conditions with nothing there: no words, and as many vectors, all of them masked."""
        absent = {name: np.zeros(len(given), np.bool_) for name, given in self.vectors.items()}
        return Conditions(vectors=self.vectors, masks=absent)


@attrs.frozen(kw_only=True, eq=False)
class Frame:
    """One time step of one conversation, both sides of it: what a recorder writes and a detector listens to.

    ``at`` is its start in seconds on the session's time line. ``user_pcm`` and ``agent_pcm`` are float32
    ``[frame_size]``; ``agent_pcm`` is ``None`` for a model without a voice. ``text`` is the token, ``agent`` and
    ``user`` int64 codes, one a stream. ``heads`` float32 ``[extra_heads, extra_classes]`` are probabilities that a
    recognition model tells beside the text. ``inserted`` is a step of silence that is not on the time line: its ``at``
    is where the audio goes on after it.
    """

    at: float
    user_pcm: Float32
    agent_pcm: Float32 | None
    text: int
    agent: Int64
    user: Int64
    heads: Float32 | None = None
    inserted: bool = False


@attrs.frozen(kw_only=True, eq=False)
class SessionState:
    """A slot's state, taken at a frame boundary.

    ``metadata`` holds strings (format version, the checkpoint's hash, dtype, backend, the spec); ``tensors`` maps names
    to arrays. Reading a tensor may copy it from the device, so the slot must not be stepped before all have been read;
    other slots may.
    """

    metadata: Mapping[str, str]
    tensors: Mapping[str, NDArray[np.generic]]

    def with_options(self, options: SessionOptions) -> "SessionState":
        """Return the same state for a session with other options; those of the metadata are what restoring takes."""
        return attrs.evolve(self, metadata={**self.metadata, OPTIONS_KEY: options.to_json()})


class FrameModel(Protocol):
    """A full-duplex dialogue model, advanced frame by frame for all its slots at once.

    All methods but ``export``'s lazy tensors are called from one thread. ``duplex.testing.check_frame_model`` runs the
    conformance suite on an implementation.
    """

    @property
    def spec(self) -> ModelSpec:
        """What goes in and comes out."""
        ...

    @property
    def codec(self) -> Codec:
        """The model's codec, with all codebooks that the model uses; safe to use from any thread."""
        ...

    def open(self, slot: int, options: SessionOptions, conditions: Conditions | None = None) -> None:
        """Reset a slot, set its options and conditions, and run the initial step, which carries only initial tokens.

        What is to be sampled with has no ``None`` in it. Neighbours are not touched.

        :raises UsageError: if the model has no such condition
        """
        ...

    def prefill(self, slot: int, tokens: Int64) -> None:
        """Advance a slot over known tokens, int64 ``[streams, n]``, one column a time step, without audio.

        Rows are text, agent, user. An ``UNGENERATED`` entry is left for the model to choose. A column advances the slot
        if its user rows are known; trailing columns whose user rows are ``UNGENERATED`` only fix what the model has
        chosen ahead. Long prompts are fed in several calls, so that neighbours are stepped in between.

        :raises UsageError: if the tokens have another shape, or one is out of range (:meth:`ModelSpec.check_tokens`)
        """
        ...

    def step(self, pcm: Float32, active: NDArray[np.bool_]) -> StepResult:
        """Advance the slots where ``active`` by one frame; the other slots keep their state exactly.

        ``pcm`` is float32 ``[capacity, frame_size]``, ``active`` bool ``[capacity]``. Rows that are not active hold
        anything, and the next step's audio comes in the same array.
        """
        ...

    def export(self, slot: int) -> SessionState:
        """Return a slot's state, for :meth:`restore` here, in another process or on another machine."""
        ...

    def restore(self, slot: int, state: SessionState) -> Iterator[None]:
        """Make a slot go on where ``state`` was taken, with its options, in pieces: what the iterator does at a time.

        Exact with the same checkpoint, backend and dtype; with another dtype or backend the transformer's cache is
        rebuilt from the token log, which may have hours. A piece takes about as long as a step, and other slots may be
        stepped, opened or restored between two. The slot itself must be left alone until the iterator has ended; if it
        is not run to its end, the slot must be opened, or restored, anew. Advancing the iterator raises what restoring
        does:

        :raises StateError: if the state belongs to another checkpoint or is damaged
        """
        ...

    def close(self) -> None:
        """Free the model's memory. No other method may be called afterwards."""
        ...


@runtime_checkable
class EmbeddedPrefill(Protocol):
    """What a :class:`FrameModel` may offer besides: to be fed sums of embeddings, as published voices hold them."""

    def prefill_embedded(self, slot: int, inputs: Float32, tokens: Int64) -> Iterator[None]:
        """Advance a slot over columns of which only the inputs are known, float32 ``[n, dim]``, in pieces.

        ``tokens`` int64 ``[streams, n]`` has what is known of the same columns, ``ZERO`` elsewhere; the last
        ``max(delays)`` columns are complete.

        :raises UsageError: if the inputs do not fit the model
        """
        ...


@runtime_checkable
class EndOfSource(Protocol):
    """What a :class:`FrameModel` that translates offers besides."""

    def end_source(self, slot: int) -> None:
        """Let the slot's next step tell the model that the source has ended; the audio of that step is not heard."""
        ...


@runtime_checkable
class Staged(Protocol):
    """What a :class:`FrameModel` may offer besides, for measuring: its step, taken apart."""

    def stages(self, slots: Sequence[int]) -> Mapping[str, Callable[[], None]]:
        """Return calls that each run one stage for open slots and wait for its end.

        They are ``"encode"``, ``"temporal"``, ``"language_model"``, of which temporal is a part, and, for a model with
        a voice, ``"decode"``. The slots must be opened anew before they are stepped again.
        """
        ...


@attrs.frozen(kw_only=True, eq=False)
class TokenScores:
    """How likely the model found the tokens of some steps, for each stream that it generates: text, then agent.

    ``log_probabilities`` float32 ``[batch, 1 + agent_streams, n]``, natural logarithms over the whole vocabulary at
    temperature 1; NaN where nothing was wanted. ``ranks`` int64 of the same shape: how many tokens were likelier, -1
    where nothing was wanted. ``text`` int64 ``[batch, n]`` is what the model went on with: what was wanted, or, where
    nothing was, the likeliest.
    """

    log_probabilities: NDArray[np.float32]
    ranks: NDArray[np.int64]
    text: NDArray[np.int64]


@runtime_checkable
class ScoresTokens(Protocol):
    """A model that scores tokens in its slots, side by side, by the frame path that generates them."""

    def open_for_scoring(self, slot: int, conditions: Conditions | None = None) -> None:
        """Reset a slot for :meth:`score`, without the initial step, whose scores are wanted too.

        :raises UsageError: if the model has no such condition, or does not score
        """
        ...

    def score(self, slots: Sequence[int], inputs: NDArray[np.int64], targets: NDArray[np.int64]) -> TokenScores:
        """Advance slots, in rising order, by ``n`` steps, at most :data:`LONGEST_RUN`, and score what should come out.

        ``inputs`` int64 ``[batch, streams, n]`` are what the steps read: step s reads index ``s - 1`` of every delayed
        stream, ``UNGENERATED`` before a stream's beginning. ``targets`` int64 ``[batch, 1 + agent_streams, n]`` are
        what they are to write, index s; ``UNGENERATED`` where there is nothing to score. The depth transformer reads
        the targets before each codebook, the initial token where there is none, and the likeliest text where that is
        not given.
        """
        ...


def split_columns(tokens: Int64, columns: int) -> Iterator[Int64]:
    """Yield ``tokens`` ``[streams, n]`` in pieces of at most ``columns`` columns, for :meth:`FrameModel.prefill`."""
    for start in range(0, tokens.shape[1], columns):
        yield tokens[:, start : start + columns]
