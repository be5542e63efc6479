"""Training of the language model: next-token prediction of text and agent codes, frame by frame."""

from duplex.training.language_model.loop import train_language_model
from duplex.training.language_model.memory import TrainingMemory, predict_training
from duplex.training.language_model.settings import TINY_LANGUAGE_MODEL, LanguageModelSettings, LoraSettings

__all__ = [
    "TINY_LANGUAGE_MODEL",
    "LanguageModelSettings",
    "LoraSettings",
    "TrainingMemory",
    "predict_training",
    "train_language_model",
]
