"""Recordings, shards and a cluster for the tests of batches."""

import io
import os
import secrets
import tarfile
import wave

import numpy as np

RATE = 24000
SURROUNDINGS = {
    **os.environ,
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else it listens on every address
    "RAY_USAGE_STATS_ENABLED": "0",
}


def wav_bytes(seed, seconds=0.4, channels=1):
    """A short recording of its own for each seed."""
    noise = np.random.default_rng(seed)
    samples = (noise.standard_normal(round(seconds * RATE) * channels) * 2000).astype(np.int16)
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setparams((channels, 2, RATE, 0, "NONE", ""))
        written.writeframes(samples.tobytes())
    return file.getvalue()


def write_shard(path, members, mode="w"):
    """Write members, bytes by their names, to an archive."""
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path
