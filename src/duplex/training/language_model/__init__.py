"""The language model's training: the text and the agent's codes of every frame, from all that came before."""

from duplex.training.language_model.loop import train_language_model
from duplex.training.language_model.settings import TINY_LANGUAGE_MODEL, LanguageModelSettings

__all__ = ["TINY_LANGUAGE_MODEL", "LanguageModelSettings", "train_language_model"]
