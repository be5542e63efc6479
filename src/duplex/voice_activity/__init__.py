"""Voice activity detection: the protocol of a detector, and Silero VAD."""
