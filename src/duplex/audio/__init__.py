"""Sound as numbers and as bytes: samples, frames, rates, levels, and the formats of files and wires."""
