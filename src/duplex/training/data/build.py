"""Makes a corpus: which shards there shall be, and each of them, in as many processes as there are cores.

A shard depends on the seed, its voice and its number only (but for the noise that one engine draws for itself), so it
does not matter which process makes it, or when.
"""

import math
import multiprocessing
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import attrs
import numpy as np

from duplex.audio import to_int16
from duplex.errors import OutputError, UsageError
from duplex.process.files import make_folder
from duplex.training.data.corpus import Shard, write_shard
from duplex.training.data.sound import Noise, SoundSource, Spoken
from duplex.training.data.synthesizers import SAMPLE_RATE
from duplex.training.data.teacher import Teacher
from duplex.training.data.voices import CAST, Voice

__all__ = ["Order", "build", "plan"]

SHARD_SECONDS = 300
SHARE_OF_NOISE = 0.03
BYTES_PER_SECOND = SAMPLE_RATE * 2 + 25 * Teacher.WIDTH
_TEACHER = Teacher()


@attrs.frozen(kw_only=True)
class Order:
    """One shard that shall be made: so many seconds of a source's sound."""

    path: Path
    source: SoundSource
    seconds: float
    seed: int


def plan(folder: Path, *, scale: float = 1.0, seed: int = 0, cast: Sequence[Voice] = CAST) -> list[Order]:
    """Return the shards of a corpus in ``folder``; ``scale`` multiplies every voice's minutes.

    :raises UsageError: if ``scale`` is not positive
    """
    if not 0 < scale < math.inf:
        raise UsageError(f"the scale is {scale}; give a number above 0")
    lengths: list[tuple[SoundSource, float]] = [(Spoken(voice), voice.minutes * 60 * scale) for voice in cast]
    lengths.append((Noise(), SHARE_OF_NOISE * sum(seconds for _, seconds in lengths)))
    orders: list[Order] = []
    for source, seconds in lengths:
        name = source.voice
        for index in range(max(1, round(seconds / SHARD_SECONDS))):
            orders.append(  # noqa: PERF401 -- two nested loops in a comprehension are hard to read
                Order(
                    path=folder / f"{name}-{index:04}.safetensors",
                    source=source,
                    seconds=min(seconds, SHARD_SECONDS),
                    seed=zlib.crc32(f"{seed} {name} {index}".encode()),
                )
            )
    return orders


def build(
    orders: Sequence[Order], *, workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> int:
    """Make the shards that are not there yet; return how many those were. ``progress`` gets done and all shards.

    :raises OutputError: if the folder cannot be made or the disk has no room for all of them
    :raises MissingDependencyError: if a synthesizer is not installed
    """
    for folder in {order.path.parent for order in orders}:
        make_folder(folder)
    missing = [order for order in orders if not order.path.exists()]
    _check_room(missing)
    done = len(orders) - len(missing)
    if progress:
        progress(done, len(orders))
    # A fresh interpreter for each worker: a copy of this one may hold locks of threads that are not copied with it.
    context = multiprocessing.get_context("spawn")
    count = max(1, min(len(missing), workers or os.cpu_count() or 1))
    with ProcessPoolExecutor(count, mp_context=context) as pool:
        tasks = [pool.submit(make_shard, order) for order in missing]
        try:
            for task in as_completed(tasks):
                task.result()
                done += 1
                if progress:
                    progress(done, len(orders))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return len(missing)


def make_shard(order: Order) -> None:
    """Make one shard."""
    sound = order.source.make(order.seconds, np.random.default_rng(order.seed))
    shard = Shard(
        voice=order.source.voice,
        role=order.source.role,
        sample_rate=SAMPLE_RATE,
        pcm=to_int16(sound.heard),
        targets=_TEACHER.features(sound.meant, SAMPLE_RATE),
        utterances=tuple(sound.utterances),
    )
    write_shard(order.path, shard)


def _check_room(orders: Sequence[Order]) -> None:
    if not orders:
        return
    folder = orders[0].path.parent
    need = sum(order.seconds for order in orders) * BYTES_PER_SECOND
    free = shutil.disk_usage(folder).free
    if need > free:
        raise OutputError(
            f"{folder} has {free / 1e9:.1f} GB free, but the data takes {need / 1e9:.1f} GB; "
            "make room, choose another folder, or take less with --scale"
        )
