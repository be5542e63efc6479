"""Files that appear whole or not at all, and the wav writer on top of them."""

import errno
import os
import subprocess
import sys
import textwrap
import wave
from pathlib import Path

import numpy as np
import pytest

from duplex.atomic import atomic_path, atomic_write_bytes, atomic_write_text
from duplex.audio import wav
from duplex.audio.wav import WavWriter
from duplex.errors import AudioError, ClosedError, OutputError, UsageError

SOURCE = str(Path(__file__).parents[2] / "src")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_half(path, error):
    with atomic_path(path) as part:
        part.write_text("half")
        raise error


def read_wav(path):
    with wave.open(str(path), "rb") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
        return samples.reshape(-1, file.getnchannels()), file.getframerate()


def test_atomic_path_appears_at_the_end(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_path(target) as part:
        assert part.parent == tmp_path
        assert part.name.endswith(".part")
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_atomic_path_leaves_nothing_after_an_exception(tmp_path, error):
    with pytest.raises(error):
        write_half(tmp_path / "a.txt", error)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EACCES, "may not write"),
        (errno.EROFS, "read-only"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_system_errors_are_told(tmp_path, code, words):
    target = tmp_path / "a.txt"
    with pytest.raises(OutputError, match=words) as caught:
        write_half(target, OSError(code, os.strerror(code)))
    assert str(target) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputError, match="it is a folder"):
        atomic_write_text(tmp_path / "a", "x")
    assert names(tmp_path) == ["a"]


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs a device")
def test_a_device_is_not_replaced():
    with pytest.raises(OutputError, match="device"):
        atomic_write_bytes("/dev/null", b"x")


def test_a_missing_folder(tmp_path):
    with pytest.raises(OutputError, match="folder does not exist"):
        atomic_write_text(tmp_path / "no" / "a", "x")


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        atomic_write_text(tmp_path / "a" / "b", "x")


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(OutputError, match="too long"):
        atomic_write_text(tmp_path / ("x" * 300), "x")


def test_a_rename_that_fails(tmp_path, monkeypatch):
    def replace(*_):
        raise OSError(errno.EACCES, "no")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OutputError, match="may not write"):
        atomic_write_text(tmp_path / "a", "x")
    assert names(tmp_path) == []


def test_text_is_utf8_with_plain_line_ends(tmp_path):
    atomic_write_text(tmp_path / "a", "é\n")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa9\n"


def test_mono_clipped_and_committed(tmp_path):
    writer = WavWriter(tmp_path / "a.wav", channels=1, sample_rate=24000)
    writer.write(np.array([0.5, 2.0], dtype=np.float32))
    writer.write(np.array([[-2.0]], dtype=np.float32))
    writer.write(np.zeros(0, dtype=np.float32))
    assert not (tmp_path / "a.wav").exists()
    writer.commit()
    writer.commit()
    writer.discard()
    samples, rate = read_wav(tmp_path / "a.wav")
    assert rate == 24000
    assert samples[:, 0].tolist() == [16384, 32767, -32768]
    assert names(tmp_path) == ["a.wav"]


def test_stereo(tmp_path):
    with WavWriter(tmp_path / "a.wav", channels=2, sample_rate=8000) as writer:
        writer.write(np.array([[0.0, 0.5], [0.25, -0.5]], dtype=np.float32))
    assert read_wav(tmp_path / "a.wav")[0].tolist() == [[0, 16384], [8192, -16384]]


def test_no_audio_is_a_valid_file(tmp_path):
    WavWriter(tmp_path / "a.wav", channels=1, sample_rate=8000).commit()
    assert read_wav(tmp_path / "a.wav")[0].shape == (0, 1)


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 3), (2, 2, 2), ()])
def test_shapes_that_do_not_fit(tmp_path, shape):
    writer = WavWriter(tmp_path / "a.wav", channels=2, sample_rate=8000)
    with pytest.raises(AudioError, match="2 channels"):
        writer.write(np.zeros(shape, dtype=np.float32))
    writer.discard()


def test_discard_leaves_nothing(tmp_path):
    writer = WavWriter(tmp_path / "a.wav", channels=1, sample_rate=8000)
    writer.write(np.zeros(100_000, dtype=np.float32))
    writer.discard()
    writer.discard()
    assert names(tmp_path) == []
    with pytest.raises(ClosedError, match="discarded"):
        writer.write(np.zeros(1, dtype=np.float32))


def test_an_exception_discards(tmp_path):
    with pytest.raises(ValueError, match="x"), WavWriter(tmp_path / "a.wav", channels=1, sample_rate=8000):
        raise ValueError("x")
    assert names(tmp_path) == []


@pytest.mark.parametrize(("channels", "rate"), [(0, 8000), (1, 0)])
def test_nonsense_is_refused(tmp_path, channels, rate):
    with pytest.raises(UsageError, match="positive"):
        WavWriter(tmp_path / "a.wav", channels=channels, sample_rate=rate)


def test_four_gibibytes_are_the_most(tmp_path, monkeypatch):
    monkeypatch.setattr(wav, "_MAXIMUM_BYTES", 100)
    writer = WavWriter(tmp_path / "a.wav", channels=1, sample_rate=8000)
    writer.write(np.zeros(50, dtype=np.float32))
    with pytest.raises(OutputError, match="4 GiB"):
        writer.write(np.zeros(1, dtype=np.float32))
    assert names(tmp_path) == []


@pytest.mark.parametrize("seconds", [0.1, 60])  # refused when the last buffer is flushed, and in the middle
def test_a_full_disk(tmp_path, seconds):
    pytest.importorskip("resource")  # limits on file sizes are POSIX's
    script = f"""
        import resource, numpy as np
        from duplex.errors import OutputError
        from duplex.audio.wav import WavWriter
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        writer = WavWriter({str(tmp_path / "a.wav")!r}, channels=1, sample_rate=24000)
        try:
            writer.write(np.zeros(int(24000 * {seconds}), dtype=np.float32))
            writer.commit()
        except OutputError as error:
            print(error)
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": SOURCE}
    )
    assert "a.wav cannot be written: the file is larger than the disk or your limits allow" in result.stdout
    assert result.stderr == ""
    assert names(tmp_path) == []
