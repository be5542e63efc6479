"""The fixtures of `recognition_support`."""

from recognition_support import recognizer, reference_recognizer

__all__ = ["recognizer", "reference_recognizer"]
