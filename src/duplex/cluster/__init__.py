"""Many machines, placed and supervised by Ray: :mod:`duplex.cluster.batch` runs recordings there."""
