"""Dialogues to train on: what is said, when, by whom, and what the model sees of it."""

from duplex.training.dialogues.dialogue import Dialogue, Word
from duplex.training.dialogues.performance import perform
from duplex.training.dialogues.plan import DialogueOrder, dialogues_of_recordings, plan_dialogues
from duplex.training.dialogues.recorded import read_dialogue
from duplex.training.dialogues.tokens import DialogueTokens, TextMarks, tokenize

__all__ = [
    "Dialogue",
    "DialogueOrder",
    "DialogueTokens",
    "TextMarks",
    "Word",
    "dialogues_of_recordings",
    "perform",
    "plan_dialogues",
    "read_dialogue",
    "tokenize",
]
