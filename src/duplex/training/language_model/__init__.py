"""Training of the language model: next-token prediction of text and agent codes, frame by frame."""

from duplex.training.language_model.loop import train_language_model
from duplex.training.language_model.settings import TINY_LANGUAGE_MODEL, LanguageModelSettings

__all__ = ["TINY_LANGUAGE_MODEL", "LanguageModelSettings", "train_language_model"]
