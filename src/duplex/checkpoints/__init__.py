"""Checkpoints: from a name to files, configuration, tokenizer and weights' headers."""
