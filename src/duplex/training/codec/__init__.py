"""The codec's training: its losses, its quantizer, and the loop around them."""
