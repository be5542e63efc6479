"""Speech corpora: synthesized, or taken from recordings, in a folder of shards."""

from duplex.training.data.build import Job, build
from duplex.training.data.corpus import Corpus, Shard, Utterance
from duplex.training.data.plan import SpeechJob, plan
from duplex.training.data.recordings import plan_recordings
from duplex.training.data.voices import AGENT_VOICE, HELD_OUT_VOICES, TRAINING_VOICES, Voice

__all__ = [
    "AGENT_VOICE",
    "HELD_OUT_VOICES",
    "TRAINING_VOICES",
    "Corpus",
    "Job",
    "Shard",
    "SpeechJob",
    "Utterance",
    "Voice",
    "build",
    "plan",
    "plan_recordings",
]
