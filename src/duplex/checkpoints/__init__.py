"""From a name to the files of a checkpoint: where they are, how they are laid out, and what they say."""
