"""The fixtures of `recognition_support`."""

from recognition_support import recognizer, recognizer_with_heads, reference_recognizer

__all__ = ["recognizer", "recognizer_with_heads", "reference_recognizer"]
