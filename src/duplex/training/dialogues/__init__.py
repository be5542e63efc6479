"""Dialogue data: simulated or recorded two-channel dialogues, and their tokens."""

from duplex.training.dialogues.dialogue import Dialogue, Word
from duplex.training.dialogues.plan import DialogueJob, plan_dialogues, plan_recorded_dialogues
from duplex.training.dialogues.recorded import read_dialogue
from duplex.training.dialogues.simulation import simulate_dialogue
from duplex.training.dialogues.tokens import DialogueTokens, tokenize
from duplex.transcription.alignment import SpecialTokens

__all__ = [
    "Dialogue",
    "DialogueJob",
    "DialogueTokens",
    "SpecialTokens",
    "Word",
    "plan_dialogues",
    "plan_recorded_dialogues",
    "read_dialogue",
    "simulate_dialogue",
    "tokenize",
]
