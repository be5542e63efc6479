"""Recordings of nearly any format, whole, damaged and cut short."""

import errno
import io
import os
import wave
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from audio_files_support import RATE, encode, read, receive_all, tones, write_wav

from duplex.audio import decoding
from duplex.errors import AudioFileError
from duplex.transports import AUDIO_SUFFIXES, FileTransport, probe_duration

pytestmark = pytest.mark.anyio


def write_video(path, *, sound):
    with av.open(str(path), "w") as output:
        picture = output.add_stream("mpeg4", rate=10)
        picture.width = picture.height = 64
        picture.pix_fmt = "yuv420p"
        voice = output.add_stream("aac", rate=44100, layout="mono") if sound else None
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), dtype=np.uint8), format="rgb24")
            frame.pts = index
            output.mux(picture.encode(frame))
        output.mux(picture.encode(None))
        if voice is not None:
            frame = av.AudioFrame.from_ndarray(tones(1, 44100, 1.0), format="fltp", layout="mono")
            frame.sample_rate = 44100
            output.mux(voice.encode(frame))
            output.mux(voice.encode(None))
    return path


async def refusal(path, **options):
    """The message of the error that a recording gives; a single line with the file's name."""
    with pytest.raises(AudioFileError) as caught:
        await read(path, **options)
    message = str(caught.value)
    assert Path(path).name in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("codec", "tolerance"),
    [
        ("pcm_u8", 0.01),
        ("pcm_s16le", 1e-4),
        ("pcm_s24le", 1e-6),
        ("pcm_s32le", 1e-6),
        ("pcm_f32le", 0),
        ("pcm_f64le", 0),
        ("pcm_mulaw", 0.02),
    ],
)
async def test_wav_of_any_width(tmp_path, codec, tolerance):
    pcm = tones(1, RATE, 2.5)
    heard = await read(encode(tmp_path / "a.wav", codec, pcm, RATE))
    assert heard.size == pcm.shape[1]
    assert np.abs(heard - pcm[0]).max() <= tolerance


@pytest.mark.parametrize(
    ("name", "codec", "rate", "channels", "container"),
    [
        ("a.flac", "flac", 44100, 1, None),
        ("a.flac", "flac", 96000, 2, None),
        ("a.wav", "pcm_s16le", 8000, 1, None),
        ("a.wav", "pcm_s24le", 96000, 2, None),
        ("a.mp3", "libmp3lame", 44100, 2, None),
        ("a.ogg", "libopus", 48000, 1, None),
        ("a.opus", "libopus", 48000, 2, None),
        ("a.m4a", "aac", 44100, 1, None),
        ("a.m4a", "alac", 48000, 2, None),
        ("a.mka", "libopus", 48000, 2, "matroska"),
        ("a.aiff", "pcm_s16be", 22050, 1, None),
    ],
)
async def test_formats(tmp_path, name, codec, rate, channels, container):
    pcm = tones(channels, rate, 2.0)
    path = encode(tmp_path / name, codec, pcm, rate, container=container)
    heard = await read(path, user_channel="left")
    # Some encoders pad the end to a whole packet.
    assert 2.0 * RATE - 1 <= heard.size <= 2.06 * RATE
    middle = slice(RATE // 2, RATE)
    assert np.abs(heard - tones(1, RATE, heard.size / RATE)[0])[middle].max() < 0.03
    assert path.suffix in AUDIO_SUFFIXES
    assert probe_duration(path) == pytest.approx(2.0, abs=0.06)


async def test_a_video_with_sound(tmp_path):
    path = write_video(tmp_path / "a.mp4", sound=True)
    heard = await read(path)
    assert heard.size == pytest.approx(RATE, abs=0.06 * RATE)
    assert probe_duration(path) == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize(("user_channel", "peak"), [("left", 0.4), ("right", 0.2), ("mix", 0.3)])
async def test_channels_of_stereo(tmp_path, user_channel, peak):
    path = encode(tmp_path / "a.wav", "pcm_s16le", tones(2, RATE, 1.0), RATE)
    assert (await read(path, user_channel=user_channel)).max() == pytest.approx(peak, abs=1e-3)


@pytest.mark.parametrize(("user_channel", "peak"), [("left", 0.4), ("right", 0.2), ("mix", 0.8 * (1 - 2**-7) / 7)])
async def test_channels_of_seven(tmp_path, user_channel, peak):
    path = encode(tmp_path / "a.wav", "pcm_s16le", tones(7, RATE, 1.0), RATE, layout="6.1")
    assert (await read(path, user_channel=user_channel)).max() == pytest.approx(peak, abs=1e-3)


@pytest.mark.parametrize("user_channel", ["left", "right", "mix"])
async def test_mono_is_taken_as_it_is(tmp_path, user_channel):
    assert (await read(write_wav(tmp_path / "a.wav"), user_channel=user_channel)).max() > 0.39


async def test_pieces_are_about_a_second(tmp_path):
    transport = FileTransport(write_wav(tmp_path / "a.wav", 5.0, 44100))
    await transport.start(RATE)
    pieces = await receive_all(transport)
    await transport.aclose()
    assert sum(p.size for p in pieces) == 5 * RATE
    assert all(p.size < 1.2 * RATE for p in pieces)
    assert len(pieces) >= 4


async def test_strange_file_names(tmp_path):
    name = "http: ünï %d.wav" if os.name == "posix" else "ünï %d.wav"
    assert (await read(write_wav(tmp_path / "a.wav").rename(tmp_path / name))).size == RATE


async def test_titles_in_an_old_encoding(tmp_path):
    pcm = tones(1, 44100, 1.0)
    path = encode(tmp_path / "a.mp3", "libmp3lame", pcm, 44100, metadata={"title": "xxxx"})
    path.write_bytes(path.read_bytes().replace(b"xxxx", b"\xe9\xff\xfe\xe8"))
    assert (await read(path)).size >= RATE


async def test_mp3_files_joined_byte_by_byte(tmp_path):
    path = encode(tmp_path / "a.mp3", "libmp3lame", tones(1, 44100, 1.0), 44100)
    path.write_bytes(path.read_bytes() * 2)
    assert (await read(path)).size >= 2 * RATE


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.wav", b"", "is empty"),
        ("a.wav", b"Dear diary, this is only a text.\n" * 100, "not a recording"),
        ("a.mp3", b"Dear diary, this is only a text.\n" * 100, "not a recording"),
        ("a.flac", b"Dear diary, this is only a text.\n" * 100, "no sound track"),
        ("a.wav", b"RIFF\x24\x00\x00\x00WAVE", "a.wav"),
        ("a.wav", b"\x00" * 5000, "not a recording"),
        ("a.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nother.wav\n#EXT-X-ENDLIST\n", "not a recording"),
        ("a.wav", b"ffconcat version 1.0\nfile other.wav\n", "not a recording"),
    ],
)
async def test_what_is_no_recording(tmp_path, monkeypatch, name, content, words):
    monkeypatch.chdir(tmp_path)
    write_wav(tmp_path / "other.wav")  # a playlist must not lead to another file
    (tmp_path / name).write_bytes(content)
    assert words in await refusal(Path(name))
    assert probe_duration(Path(name)) is None


async def test_missing_file(tmp_path):
    assert "does not exist" in await refusal(tmp_path / "a.wav")
    assert probe_duration(tmp_path / "a.wav") is None


async def test_folder(tmp_path):
    assert "is a folder" in await refusal(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
async def test_a_pipe_is_heard(tmp_path):
    path = tmp_path / "a.wav"
    os.mkfifo(path)
    sound = encode(tmp_path / "b.m4a", "aac", tones(1, 44100, 3.0), 44100).read_bytes()  # its index lies at the end
    with ThreadPoolExecutor() as writer:
        writer.submit(path.write_bytes, sound)
        assert (await read(path)).size == pytest.approx(3 * RATE, abs=0.05 * RATE)
        writer.submit(path.write_bytes, b"")
        assert "has sent nothing" in await refusal(path)
        assert probe_duration(path) is None, "probing would swallow what is to be heard"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs devices")
async def test_a_device_is_refused():
    assert "is a device" in await refusal("/dev/zero")


async def test_a_name_that_cannot_be():
    assert "cannot be opened" in await refusal("a\0.wav")


@pytest.mark.parametrize(("error", "words"), [(errno.EACCES, "may not be read"), (errno.EIO, "cannot be opened")])
async def test_unreadable_file(tmp_path, monkeypatch, error, words):
    write_wav(tmp_path / "a.wav")

    def refuse(*_):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(Path, "open", refuse)  # permissions do not bind root, who may run this
    assert words in await refusal(tmp_path / "a.wav")


async def test_video_without_sound(tmp_path):
    path = write_video(tmp_path / "a.mp4", sound=False)
    assert "no sound track" in await refusal(path)
    assert probe_duration(path) is None


async def test_no_samples(tmp_path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", "not compressed"))
        file.writeframes(b"")
    assert "without samples" in await refusal(tmp_path / "a.wav")


async def test_rate_out_of_range(tmp_path):
    path = encode(tmp_path / "a.wav", "pcm_s16le", tones(1, 500, 1.0), 500)
    assert "500 Hz" in await refusal(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("codec", ["pcm_f32le", "pcm_f64le"])
async def test_not_a_number(tmp_path, bad, codec):
    pcm = tones(2, RATE, 3.0)
    pcm[0, 2 * RATE] = bad
    path = encode(tmp_path / "a.wav", codec, pcm, RATE)
    assert "NaN or infinity at 2.00 s" in await refusal(path)
    assert (await read(path, user_channel="right")).size == 3 * RATE


@pytest.mark.parametrize(
    ("name", "codec", "least"), [("a.wav", "pcm_s16le", 1.7), ("a.flac", "flac", 1.4), ("a.mp3", "libmp3lame", 1.6)]
)
async def test_a_file_cut_short_gives_what_is_there(tmp_path, name, codec, least):
    path = encode(tmp_path / name, codec, tones(1, 44100, 3.0), 44100)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10 + 1])
    assert least * RATE < (await read(path)).size < 1.85 * RATE


@pytest.mark.parametrize(("name", "codec"), [("a.ogg", "libopus"), ("a.flac", "flac")])
async def test_a_lost_page_is_silence_and_shifts_nothing(tmp_path, name, codec):
    path = encode(tmp_path / name, codec, tones(1, 48000, 5.0), 48000)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    path.write_bytes(content)
    heard = await read(path)
    assert heard.size == 5 * RATE
    assert not heard[2 * RATE : 3 * RATE].all()
    last = slice(4 * RATE, 5 * RATE - 500)
    assert np.abs(heard - tones(1, RATE, 5.0)[0])[last].max() < 0.03


async def test_a_pause_in_a_container_is_silence(tmp_path):
    path = tmp_path / "a.mka"
    with av.open(str(path), "w", format="matroska") as output:
        stream = output.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for start in (0, 3, 4, 4 + 3600):  # of an hour and more, only the samples count
            frame = av.AudioFrame.from_ndarray(np.full((1, RATE), 8192, dtype=np.int16), format="s16", layout="mono")
            frame.sample_rate = RATE
            frame.pts = start * RATE
            frame.time_base = Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    heard = await read(path)
    assert heard.size == 6 * RATE
    assert heard[::RATE].tolist() == [0.25, 0, 0, 0.25, 0.25, 0.25]


async def test_an_m4a_cut_short_cannot_be_read(tmp_path):
    path = encode(tmp_path / "a.m4a", "aac", tones(1, 44100, 3.0), 44100)
    path.write_bytes(path.read_bytes()[:-3000])
    assert "cut short" in await refusal(path)


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "libmp3lame"), ("a.m4a", "aac")])
async def test_damage_in_the_middle_is_told_with_its_time(tmp_path, name, codec):
    path = encode(tmp_path / name, codec, tones(1, 44100, 4.0), 44100)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = b"\xff\x00\x55" * 1000
    path.write_bytes(content)
    transport = FileTransport(path)
    await transport.start(RATE)
    for _ in range(2):  # and again: a failed transport does not seem to have ended
        with pytest.raises(AudioFileError, match=r"cannot be decoded at [12]\.\d\d s.*damaged"):
            await receive_all(transport)
    await transport.aclose()


class FailingDisk(io.FileIO):
    def read(self, size=-1):
        if self.tell() > 500_000:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(size)


async def test_a_disk_that_fails_while_reading(tmp_path, monkeypatch):
    path = write_wav(tmp_path / "a.wav", 30.0)
    monkeypatch.setattr(decoding, "open_recording", lambda path, _: FailingDisk(path))
    transport = FileTransport(path)
    await transport.start(RATE)
    with pytest.raises(AudioFileError, match=r"cannot be decoded at \d+\.\d\d s"):
        await receive_all(transport)
    await transport.aclose()
