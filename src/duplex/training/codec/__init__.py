"""Training of the codec: data, losses, vector quantization, the training loop, and export."""
