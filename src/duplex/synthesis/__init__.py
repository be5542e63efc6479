"""Speech synthesis without a backend: what a text becomes, when each word is said, and whose voice says it."""
