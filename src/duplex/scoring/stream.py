"""How likely a model finds a dialogue, frame by frame: :func:`score`."""

import math
from collections.abc import AsyncGenerator, Iterator
from typing import cast

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.concurrency.notifiers import ThreadsafeNotifier, weak_callback
from duplex.engine.model import Model
from duplex.engine.outcomes import Failed
from duplex.engine.scoring import Stretch, check_scores
from duplex.engine.seat import Seat
from duplex.errors import CapacityError, UsageError
from duplex.frame_model import UNGENERATED, ZERO, ModelSpec, TokenScores
from duplex.scoring.columns import columns_of

__all__ = ["FrameScore", "check_dialogue", "score"]

Int64 = NDArray[np.int64]


@attrs.frozen(kw_only=True, eq=False)
class FrameScore:
    """How likely the model found what happened in one frame, given everything before it.

    ``at`` is the frame's start in seconds. ``tokens`` int64 ``[1 + agent_streams]`` are the text and the agent's codes.
    ``log_probabilities`` float32 and ``ranks`` int64 of the same shape are theirs: natural logarithms at temperature 1,
    over the whole vocabulary, and how many tokens were likelier; NaN and -1 for what is not scored.
    """

    at: float
    tokens: Int64
    log_probabilities: NDArray[np.float32]
    ranks: Int64

    @property
    def text_surprise(self) -> float:
        """The text's surprise in bits, NaN where it is not scored."""
        return -float(self.log_probabilities[0]) / math.log(2)

    @property
    def total(self) -> float:
        """The sum of the log-probabilities of what is scored."""
        return float(np.nansum(self.log_probabilities))


def check_dialogue(spec: ModelSpec, tokens: Int64) -> Int64:
    """Return a copy of a dialogue's tokens, if they are ones to score.

    :raises UsageError: if the model hears or says nothing, or a token is out of range or missing
    """
    if not (spec.user_streams and spec.agent_streams):
        raise UsageError(f"a model of kind {spec.kind!r} holds no dialogues, and scores none; give one that does")
    spec.check_tokens(tokens)
    known = tokens[1:] if (tokens[0] == UNGENERATED).all() else tokens
    if not tokens.shape[1] or (known == UNGENERATED).any() or (tokens[: 1 + spec.agent_streams] == ZERO).any():
        raise UsageError(
            "every token of a dialogue has to be known; only the text may be left free, all of it, as "
            f"{UNGENERATED} in every frame"
        )
    return np.array(tokens, np.int64)


async def score(model: Model, tokens: Int64) -> AsyncGenerator[FrameScore]:
    """Score a dialogue's tokens, int64 ``[streams, n]``: text, agent, user, one column a frame, not delayed.

    The text may be ``UNGENERATED`` in every frame: it is then not scored, and the model goes on with the likeliest one
    at each step. Of codebooks with a delay of d frames the last d frames are not scored.

    It takes a place of the model, waiting for one. Dialogues that are scored at the same time, in other tasks, go
    through the model side by side. Close the iterator (``contextlib.aclosing``) if it is not read to its end.

    :raises UsageError: if the model scores no dialogues, or the tokens are not complete
    :raises ClosedError: if the model is closed
    """
    check_scores(model.frame_model)
    tokens = check_dialogue(model.spec, tokens)
    results = ThreadsafeNotifier()
    seat = await _take_seat(model, results)
    try:
        inputs, targets = columns_of(tokens, model.spec)
        stretch = Stretch(seat, inputs, targets, weak_callback(results.notify))
        model.engine.scoring.add(stretch)
        frames = _Frames(model.spec, tokens)
        while frames.told < tokens.shape[1]:
            if not stretch.found:
                _raise_failure(seat, stretch)
                await results.wait()
                continue
            for frame in frames.feed(stretch.found.popleft()):
                yield frame
    finally:
        seat.close()


def _raise_failure(seat: Seat, stretch: Stretch) -> None:
    for outcome in seat.take():
        if isinstance(outcome, Failed):
            raise outcome.error
    if stretch.error is not None:
        raise stretch.error


async def _take_seat(model: Model, results: ThreadsafeNotifier) -> Seat:
    """Take a place of the model, waiting for one."""
    engine, vacancy = model.engine, ThreadsafeNotifier()
    with engine.vacancies(weak_callback(vacancy.notify)):
        while True:
            try:
                return engine.take(engine.scoring.prepare, realtime=False, notify=weak_callback(results.notify))
            except CapacityError:
                await vacancy.wait()


class _Frames:
    """Puts the scores of steps together to those of frames; the last frames have none for delayed codebooks."""

    def __init__(self, spec: ModelSpec, tokens: Int64) -> None:
        self._spec = spec
        self._tokens = tokens
        self._delays = spec.delays[: 1 + spec.agent_streams]
        self._likely = np.full((len(self._delays), tokens.shape[1]), np.nan, np.float32)
        self._ranks = np.full((len(self._delays), tokens.shape[1]), -1, np.int64)
        self._steps = 0
        self.told: int = 0
        """Frames that have been told."""

    def feed(self, scores: TokenScores) -> Iterator[FrameScore]:
        """Take the next steps' scores, of one row; yield the frames that are complete."""
        count = scores.text.shape[1]
        if self._tokens[0, self._steps] == UNGENERATED:
            self._tokens[0, self._steps : self._steps + count] = scores.text[0]
        for stream, delay in enumerate(self._delays):
            for into, found in ((self._likely, scores.log_probabilities), (self._ranks, scores.ranks)):
                first = max(delay - self._steps, 0)
                begin = self._steps + first - delay
                into[stream, begin : begin + max(count - first, 0)] = cast("Int64", found)[0, stream, first:]
        self._steps += count
        whole = self._tokens.shape[1]
        complete = whole if self._steps == whole else max(self._steps - max(self._delays), 0)
        while self.told < complete:
            yield self._frame(self.told)
            self.told += 1

    def _frame(self, index: int) -> FrameScore:
        return FrameScore(
            at=self._spec.seconds(index),
            tokens=self._tokens[: len(self._delays), index].copy(),
            log_probabilities=self._likely[:, index].copy(),
            ranks=self._ranks[:, index].copy(),
        )
