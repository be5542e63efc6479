"""A small recognition model in the published layout, and what the published program computes from it.

`tests/data/family/stt-prefix.tar.xz` is an extract of a random model with a silence before the audio and words 2.5 s
late; its codec's decoder, which nobody hears, is zeros. With DUPLEX_FAMILY_REFERENCE naming the folder that it comes
from, its siblings are tested too.
"""

import json
import os
import shutil
import tarfile
import wave
from pathlib import Path

import attrs
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

DATA = Path(__file__).parent / "data" / "family"
FRAME, RATE = 1920, 24000


@attrs.frozen
class Recognizer:
    """A checkpoint, and what is expected of it."""

    folder: Path
    tensors: dict
    facts: dict

    @property
    def pcm(self):
        return self.tensors["pcm"]

    @property
    def lead(self):
        return self.facts["stt_config"]["audio_silence_prefix_seconds"]

    def words(self, frames):
        """Return the server's words within the first ``frames`` tokens, on the time line of the audio."""
        return [
            (each["word"], round(max(each["start"] - self.lead, 0.0), 6))
            for each in self.facts["server_words"]
            if "word" in each
        ][: words_within(self.facts["server_words"], self.tensors["text"][:frames].tolist(), self.delay)]

    @property
    def delay(self):
        return {0.5: 6, 2.5: 32}[self.facts["stt_config"]["audio_delay_seconds"]]


def words_within(found, tokens, delay):
    """Return how many words are closed within these tokens."""
    closed, is_open = 0, False
    for step, token in enumerate(tokens, 1):
        if step >= delay:
            closed += token in (0, 3) and is_open
            is_open = token not in (0, 3)
    assert closed <= sum("word" in each for each in found)
    return closed


def write_wav(path, pcm):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((np.clip(pcm, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def recognizer_in(folder):
    return Recognizer(
        folder, load_file(folder / "expected.safetensors"), json.loads((folder / "expected.json").read_text())
    )


@pytest.fixture(scope="session")
def recognizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("family")
    with tarfile.open(DATA / "stt-prefix.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return recognizer_in(folder / "stt-prefix")


@pytest.fixture(scope="session")
def recognizer_with_heads(recognizer, tmp_path_factory):
    """The same with extra heads, random ones, which change their mind often."""
    folder = tmp_path_factory.mktemp("heads") / "stt"
    shutil.copytree(recognizer.folder, folder)
    config = json.loads((folder / "config.json").read_text()) | {"extra_heads_num_heads": 4, "extra_heads_dim": 6}
    (folder / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(2)
    heads = {f"extra_heads.{head}.weight": random.normal(0, 0.6, (6, 64)).astype(np.float32) for head in range(4)}
    save_file(load_file(folder / "model.safetensors") | heads, folder / "model.safetensors")
    return attrs.evolve(recognizer, folder=folder)


@pytest.fixture(params=["stt", "stt-prefix"])
def reference_recognizer(request):
    """The whole reference checkpoints, where they are."""
    folder = os.environ.get("DUPLEX_FAMILY_REFERENCE")
    if folder is None:
        pytest.skip("DUPLEX_FAMILY_REFERENCE names no folder with the reference checkpoints")
    return recognizer_in(Path(folder) / request.param)
