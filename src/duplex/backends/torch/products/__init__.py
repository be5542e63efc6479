"""Which of several equal products multiplies a weight on a CPU: timed on this machine, once, and kept in a cache."""
