"""Training: the speech that a model learns from, and the codec that is made of it.

    from pathlib import Path
    from duplex.training import train_codec
    from duplex.training.data import build, plan

    build(plan(Path("corpus")))
    train_codec(Path("corpus"), Path("run"))

What is written is a checkpoint in the published layout, made of the very modules that the torch backend runs.
"""

from duplex.training.codec.loop import train_codec
from duplex.training.codec.settings import TINY, CodecSettings
from duplex.training.trainer import Report

__all__ = ["TINY", "CodecSettings", "Report", "train_codec"]
