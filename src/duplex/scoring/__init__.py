"""How likely a model finds what was said in recorded dialogues."""
