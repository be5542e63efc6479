"""Published benchmarks on a model."""
