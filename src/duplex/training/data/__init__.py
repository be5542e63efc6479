"""Speech to train on: made by synthesizers, or taken from recordings, into a folder of shards."""

from duplex.training.data.build import Order, build
from duplex.training.data.corpus import Corpus, Shard, Utterance
from duplex.training.data.plan import SpeechOrder, plan
from duplex.training.data.recordings import orders_of_recordings
from duplex.training.data.voices import AGENT, CAST, UNSEEN, Voice

__all__ = [
    "AGENT",
    "CAST",
    "UNSEEN",
    "Corpus",
    "Order",
    "Shard",
    "SpeechOrder",
    "Utterance",
    "Voice",
    "build",
    "orders_of_recordings",
    "plan",
]
