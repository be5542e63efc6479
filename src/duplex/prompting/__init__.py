"""What a conversation begins with: personas, voices and other known tokens, as columns that a model is fed first."""
