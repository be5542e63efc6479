"""The user's words: from the tokens of a recognition model, or from a transcriber beside any other model."""
