"""Voices: where they are, how loud, and what is no voice."""

import io
import pickle
import shutil
import tarfile
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest

from duplex.audio.loudness import at_loudness, loudness_lufs
from duplex.checkpoints.sources import LocalFolder
from duplex.checkpoints.voices import Voices
from duplex.errors import AudioError, AudioFileError, CheckpointError, UsageError
from duplex.frame_model import ModelSpec
from duplex.prompting.pickles import read_tensors
from duplex.prompting.voices import find_voice, read_voice
from persona_support import EXPECTED, FOLDER

PT = FOLDER / "voices" / "voice.pt"


class Codec:
    """Notes what it is given."""

    class spec:  # noqa: N801 -- as the codec's attribute
        sample_rate, frame_size = 24000, 1920

    def encode(self, pcm):
        self.pcm = pcm
        return np.zeros((8, len(pcm) // 1920), np.int64)


def spec(**changes):
    sizes = {"text_streams": 1, "agent_streams": 8, "user_streams": 8, "text_vocabulary": 131, "audio_vocabulary": 64}
    rest = {"text_padding": 3, "text_end_of_padding": 0, "delays": (0, 0, *[1] * 7, 0, *[1] * 7)}
    given = {"sample_rate": 24000, "frame_size": 1920, "context": 160, "capacity": 1, **sizes, **rest, **changes}
    return ModelSpec(kind="personaplex", **given)


def write(path, pcm, rate=24000, channels=1):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(pcm, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def tone(seconds, level=0.1, rate=24000):
    return level * np.sin(2 * np.pi * 997 * np.arange(round(seconds * rate)) / rate)


def test_the_published_loudness():
    codec = Codec()
    read_voice(FOLDER / "voices" / "voice.wav", spec(), codec.encode)
    expected = EXPECTED["voice_normalized"]
    np.testing.assert_allclose(codec.pcm[: len(expected)], expected, atol=1e-6)
    assert len(codec.pcm) % 1920 == 0
    assert not codec.pcm[len(expected) :].any()


@pytest.mark.parametrize("rate", [16000, 24000, 48000])
def test_loudness_of_the_standard_s_tone(rate):
    """A sine of 997 Hz at full scale has -3.01 LUFS in one channel (BS.1770, annex 1)."""
    assert loudness_lufs(tone(5, 1.0, rate).astype(np.float32), rate) == pytest.approx(-3.01, abs=0.1)


def test_silence_before_and_after_does_not_count():
    speech = tone(3).astype(np.float32)
    padded = np.concatenate([np.zeros(72000, np.float32), speech, np.zeros(72000, np.float32)])
    assert loudness_lufs(padded, 24000) == pytest.approx(loudness_lufs(speech, 24000), abs=0.5)
    assert loudness_lufs(at_loudness(padded, 24000, -24.0), 24000) == pytest.approx(-24.0, abs=0.01)


@pytest.mark.parametrize("pcm", [np.zeros(48000, np.float32), np.zeros(0, np.float32), np.ones(2400, np.float32)])
def test_what_has_no_loudness(pcm):
    with pytest.raises(AudioError):
        loudness_lufs(pcm, 24000)


@pytest.mark.parametrize(
    ("pcm", "match"),
    [
        (np.zeros(48000), "silence"),
        (tone(0.2), r"needs 0\.4 s"),
        (np.tile(tone(10), 7), "longer than 60 s"),
    ],
)
def test_recordings_that_are_no_voice(tmp_path, pcm, match):
    with pytest.raises(AudioFileError, match=match) as caught:
        read_voice(write(tmp_path / "voice.wav", pcm), spec(), Codec().encode)
    assert "voice.wav" in str(caught.value)


def test_other_rates_and_stereo(tmp_path):
    codec = Codec()
    stereo = np.repeat(tone(2, rate=44100), 2)
    codes = read_voice(write(tmp_path / "voice.wav", stereo, 44100, channels=2), spec(), codec.encode)
    assert codes.shape == (8, 25)
    assert loudness_lufs(codec.pcm, 24000) == pytest.approx(-24.0, abs=0.1)


def test_a_published_file_is_read_without_torch_s_unpickler():
    tensors = read_tensors(PT)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "embeddings": (14, 1, 1, 32),
        "cache": (1, 17, 4),
    }


@pytest.mark.parametrize("name", ["BFloat16", "Half", "Double"])
def test_tensors_of_other_types(tmp_path, name):
    torch = pytest.importorskip("torch")
    kind = {"BFloat16": torch.bfloat16, "Half": torch.float16, "Double": torch.float64}[name]
    values = torch.arange(24, dtype=torch.float32).reshape(4, 6).to(kind)
    torch.save({"a": values.t(), "b": values[1:3, 2:]}, tmp_path / "voice.pt")
    found = read_tensors(tmp_path / "voice.pt")
    np.testing.assert_array_equal(found["a"], np.arange(24).reshape(4, 6).T)
    np.testing.assert_array_equal(found["b"], np.arange(24).reshape(4, 6)[1:3, 2:])


class Evil:
    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('evil').touch()",))


def packed(path, pickled, **files):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("voice/data.pkl", pickled)
        for name, content in files.items():
            archive.writestr(f"voice/data/{name}", content)
    return path


def test_code_in_a_pickle_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AudioFileError, match="it wants to call"):
        read_voice(packed(tmp_path / "evil.pt", pickle.dumps({"embeddings": Evil()})), spec(), Codec().encode)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", pickle.dumps({}), pickle.dumps([1]), b"\x80\x02}q\x00.", b"garbage" * 100]
)
def test_files_that_are_no_voice(tmp_path, content):
    (tmp_path / "voice.pt").write_bytes(content)
    with pytest.raises(AudioFileError, match=r"voice\.pt"):
        read_voice(tmp_path / "voice.pt", spec(), Codec().encode)
    with pytest.raises(AudioFileError, match=r"voice\.pt"):
        read_voice(packed(tmp_path / "voice.pt", content), spec(), Codec().encode)


def test_a_voice_of_another_model(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "voice.pt"
    for embeddings, cache in (
        (torch.zeros(14, 32), torch.zeros(1, 17, 4, dtype=torch.int64)),
        (torch.zeros(14, 1, 1, 32), torch.zeros(1, 9, 4, dtype=torch.int64)),
        (torch.zeros(14, 1, 1, 32), torch.full((1, 17, 4), 500)),
        (torch.zeros(14, 1, 1, 32), torch.zeros(1, 17, 4)),
    ):
        torch.save({"embeddings": embeddings, "cache": cache}, path)
        with pytest.raises(AudioFileError, match="no voice of such a model"):
            read_voice(path, spec(), Codec().encode)


def archive(folder, names, content=b"voice"):
    with tarfile.open(folder / "voices.tgz", "w:gz") as packed_voices:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed_voices.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("voices/LINK.pt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed_voices.addfile(link)


def test_an_archive_is_unpacked_once_and_nothing_leaves_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DUPLEX_CACHE", str(tmp_path / "cache"))
    archive(tmp_path, ["voices/NATF0.pt", "../../VARM1.pt", "/etc/VARF2.wav", "voices/readme.txt"])
    voices = Voices(LocalFolder(tmp_path))
    assert voices.listed == ("voices.tgz",)
    assert voices.names == ["NATF0", "VARF2", "VARM1"]
    assert voices.find("NATF0.pt").read_bytes() == b"voice"
    assert {path.name for path in tmp_path.rglob("*.pt")} == {"NATF0.pt", "VARM1.pt"}
    assert all((tmp_path / "cache") in path.parents for path in tmp_path.rglob("*.pt"))
    (tmp_path / "voices.tgz").rename(tmp_path / "other")
    (tmp_path / "other").rename(tmp_path / "voices.tgz")
    assert Voices(LocalFolder(tmp_path)).find("NATF0") == voices.find("NATF0")


def test_an_archive_that_another_process_unpacks_at_the_same_time(tmp_path, monkeypatch):
    monkeypatch.setenv("DUPLEX_CACHE", str(tmp_path / "cache"))
    archive(tmp_path, ["voices/NATF0.pt"])
    rename = Path.rename

    def after_the_other(made, target):
        shutil.copytree(made, target)
        return rename(made, target)

    monkeypatch.setattr(Path, "rename", after_the_other)
    assert Voices(LocalFolder(tmp_path)).find("NATF0").read_bytes() == b"voice"
    assert len(list(tmp_path.rglob("*.pt"))) == 1


def test_a_damaged_archive(tmp_path, monkeypatch):
    monkeypatch.setenv("DUPLEX_CACHE", str(tmp_path / "cache"))
    archive(tmp_path, ["voices/NATF0.pt"], content=bytes(100_000))
    whole = (tmp_path / "voices.tgz").read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2]):
        (tmp_path / "voices.tgz").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"voices\.tgz"):
            Voices(LocalFolder(tmp_path)).find("NATF0")
        assert not list(tmp_path.rglob("*.pt"))


def test_names_and_files(tmp_path):
    write(tmp_path / "mine.wav", tone(1))
    voices = Voices(LocalFolder(FOLDER))
    assert find_voice(voices, "voice", files=False).suffix == ".pt"
    assert find_voice(voices, str(tmp_path / "mine.wav"), files=True) == tmp_path / "mine.wav"
    assert find_voice(voices.beside(tmp_path), "mine", files=False) == tmp_path / "mine.wav"
    for name in (str(tmp_path / "mine.wav"), "../voice", "/etc/passwd", "mine"):
        with pytest.raises(UsageError, match="choose among"):
            find_voice(voices, name, files=False)


def test_a_small_file_does_not_unfold_into_a_large_tensor(tmp_path):
    import torch  # noqa: PLC0415

    torch.save({"embeddings": torch.zeros(1).expand(1 << 30), "cache": torch.zeros(1)}, tmp_path / "voice.pt")
    with pytest.raises(AudioFileError, match="repeats its numbers"):
        read_tensors(tmp_path / "voice.pt")
