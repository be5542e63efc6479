"""Tasks of an event loop, and the threads that wake them."""
