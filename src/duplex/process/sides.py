"""Whose side of a dialogue is the user, and whose the agent.

Rules:

- In a stereo recording a speaker is on each channel. Two mono files whose names are a pair
  (:mod:`duplex.process.pairs`) are one dialogue, named by what is alike: the first file is left, the second right.
- ``both`` takes each side once as the user.
- ``agent_channel`` is a person's side that the model takes over, ``begin_at`` seconds from the beginning: until then
  it is forced to have heard and said what was.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import attrs

from duplex.audio.pcm import UserChannel
from duplex.errors import UsageError
from duplex.process.columns import transcript_beside
from duplex.process.pairs import Pair, paired
from duplex.process.recordings import Recording

__all__ = ["OTHER_SIDE", "AgentChannel", "agent_side", "both_sides", "check_sides", "of_sides", "transcript_of"]

AgentChannel: TypeAlias = Literal["left", "right"]
LONGEST_BEGINNING = 86400.0
"""Seconds."""
OTHER_SIDE: dict[UserChannel, AgentChannel] = {"left": "right", "right": "left"}


def check_sides(
    user_channel: UserChannel,
    *,
    both: bool,
    agent_channel: AgentChannel | None = None,
    begin_at: float | None = None,
    pair: Pair | None = None,
) -> None:
    """Check that what is asked for goes together.

    :raises UsageError: if one channel and both are asked for, or an agent's channel without a time, or the reverse
    """
    if both and user_channel != "mix":
        raise UsageError("both sides of a dialogue include each channel; leave the user's channel out, or both")
    if (agent_channel is None) != (begin_at is None):
        raise UsageError(
            "the agent's channel is followed until a time; give both, as in: --agent-channel right --begin-at 30"
        )
    if agent_channel is not None and (both or user_channel != "mix"):
        raise UsageError("the agent's channel tells the user's, which is the other; leave the rest out")
    if agent_channel is not None and agent_channel not in get_args(AgentChannel):
        raise UsageError(f"the agent's channel is {agent_channel!r}; give left or right")
    if begin_at is not None and not (math.isfinite(begin_at) and 0 <= begin_at <= LONGEST_BEGINNING):
        raise UsageError(f"begin_at is {begin_at}; give seconds from 0 to {LONGEST_BEGINNING:g}")
    if pair is not None and not both and agent_channel is None:
        raise UsageError("a pair of files is a dialogue with two sides; give --both or --agent-channel with it")


def both_sides(recordings: Iterable[Recording], *, pair: Pair | None = None) -> list[Recording]:
    """Return each dialogue twice, once with either side as the user: ``NAME/user-left`` and ``NAME/user-right``."""
    found: list[Recording] = []
    for name, files in paired(list(recordings), pair):
        sides: tuple[AgentChannel, AgentChannel] = ("left", "right")
        for side in sides:
            own = _of_side(files, side)
            found.append(attrs.evolve(own, name=name / f"user-{side}"))
    return found


def agent_side(
    recordings: Iterable[Recording], agent_channel: AgentChannel, *, pair: Pair | None = None
) -> list[Recording]:
    """Return each dialogue with the side that is not the agent's as the user."""
    dialogues = paired(list(recordings), pair)
    return [attrs.evolve(_of_side(files, OTHER_SIDE[agent_channel]), name=name) for name, files in dialogues]


def of_sides(
    recordings: list[Recording], *, both: bool, agent_channel: AgentChannel | None, pair: Pair | None
) -> list[Recording]:
    """Return recordings as they are to be heard; what goes together, :func:`check_sides` says."""
    if both:
        return both_sides(recordings, pair=pair)
    return recordings if agent_channel is None else agent_side(recordings, agent_channel, pair=pair)


def transcript_of(recording: Recording) -> Path | None:
    """Return the file with the words of who is not the user, if there is one beside the recording."""
    if recording.other is None:
        return transcript_beside(recording.path)
    files = (recording, recording.other) if recording.side == "left" else (recording.other, recording)
    return transcript_beside(files[0].path, recording.other.path)


def _of_side(files: Sequence[Recording], side: AgentChannel) -> Recording:
    """Return a dialogue as the recording of a user on that side."""
    if len(files) == 1:
        return attrs.evolve(files[0], side=side)
    own, other = files if side == "left" else reversed(files)
    return attrs.evolve(own, side=side, other=other)
