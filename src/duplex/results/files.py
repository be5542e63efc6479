"""The names of what lies in a folder of results, and what is read of one."""

from pathlib import Path
from typing import Any

from duplex.parsing import parse_json
from duplex.results.subtitles import SUBTITLES

__all__ = [
    "AGENT",
    "DIALOGUE",
    "EVENTS",
    "RESULT_FILES",
    "RUN",
    "STATE",
    "TOKENS",
    "TRANSCRIPT",
    "USER_FILES",
    "USER_TRANSCRIPT",
    "read_run",
    "read_text",
]

AGENT = "agent.wav"
DIALOGUE = "dialogue.wav"
TRANSCRIPT = "transcript.json"
USER_TRANSCRIPT = "user_transcript.json"
EVENTS = "events.jsonl"
TOKENS = "tokens.safetensors"
RUN = "run.json"
STATE = "state.safetensors"
"""The conversation at its end, where that is asked for."""
RESULT_FILES = (AGENT, DIALOGUE, TRANSCRIPT, EVENTS, TOKENS, RUN)
USER_FILES = (USER_TRANSCRIPT, *SUBTITLES.values())
"""Where the user's words are asked for."""


def read_run(folder: Path) -> dict[str, Any] | None:
    """Return what ``run.json`` says, or ``None`` if there is none that can be read: the results are not finished."""
    try:
        run: Any = parse_json((folder / RUN).read_bytes(), surrogates=True)
    except (OSError, ValueError):
        return None
    return run if isinstance(run, dict) else None  # pyright: ignore[reportUnknownVariableType] -- JSON objects


def read_text(folder: Path, name: str = TRANSCRIPT) -> str:
    """Return the agent's words of finished results, or those of another transcript; "" if they cannot be read."""
    try:
        return str(parse_json((folder / name).read_bytes())["text"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
