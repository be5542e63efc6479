"""Many conversations on one frame model: slots, steps, and the one inference thread."""
