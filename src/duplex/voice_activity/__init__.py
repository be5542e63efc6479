"""Detection of the speech of users: the protocol of a detector, and Silero."""
