"""Recordings of many formats, good and bad, and audio in memory."""

import errno
import io
import os
import subprocess
import sys
import textwrap
import wave
from fractions import Fraction
from pathlib import Path

import anyio
import av
import numpy as np
import pytest

from duplex.audio import decoding
from duplex.errors import AudioError, AudioFileError, ClosedError, OutputError, UsageError
from duplex.transports import AUDIO_SUFFIXES, FileTransport, MemoryTransport, probe_duration

pytestmark = pytest.mark.anyio

SOURCE = str(Path(__file__).parents[2] / "src")
RATE = 24000


def tones(channels, rate, seconds):
    """A tone per channel, each quieter than the one before: 0.4, 0.2, 0.1 and so on."""
    time = np.arange(round(rate * seconds)) / rate
    return np.stack([0.4 / 2**c * np.sin(2 * np.pi * 440 * time) for c in range(channels)]).astype(np.float32)


def encode(path, codec, pcm, rate, *, layout=None, container=None, metadata=None):
    """Write float32 [channels, samples] with any of PyAV's encoders."""
    layout = layout or {1: "mono", 2: "stereo"}[len(pcm)]
    with av.open(str(path), "w", format=container) as output:
        output.metadata.update(metadata or {})
        stream = output.add_stream(codec, rate=rate, layout=layout)
        context = stream.codec_context
        converter = av.AudioResampler(context.format.name, layout, rate, context.frame_size or 4096)
        frame = av.AudioFrame.from_ndarray(pcm, format="fltp", layout=layout)
        frame.sample_rate = rate
        frame.pts = 0  # from which muxers tell decoders how much of the start to skip
        frame.time_base = Fraction(1, rate)
        for converted in converter.resample(frame) + converter.resample(None):
            output.mux(stream.encode(converted))
        output.mux(stream.encode(None))
    return path


def write_wav(path, seconds=1.0, rate=RATE):
    return encode(path, "pcm_s16le", tones(1, rate, seconds), rate)


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


async def receive_all(transport):
    pieces = []
    while True:
        try:
            pieces.append(await transport.receive())
        except anyio.EndOfStream:
            return pieces


async def read(path, rate=RATE, **options):
    transport = FileTransport(path, **options)
    try:
        await transport.start(rate)
        pieces = await receive_all(transport)
    finally:
        await transport.aclose()
    assert all(p.dtype == np.float32 and p.ndim == 1 and p.size for p in pieces)
    return np.concatenate(pieces)


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
async def test_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    assert "device or pipe" in await refusal(tmp_path / "a.wav")


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
    monkeypatch.setattr(decoding, "open_recording", FailingDisk)
    transport = FileTransport(path)
    await transport.start(RATE)
    with pytest.raises(AudioFileError, match=r"cannot be decoded at \d+\.\d\d s"):
        await receive_all(transport)
    await transport.aclose()


async def test_output_appears_in_finish(tmp_path):
    output = tmp_path / "out.wav"
    transport = FileTransport(write_wav(tmp_path / "in.wav"), output)
    assert transport.realtime is False
    await transport.start(RATE)
    frame = np.full(1920, 0.5, dtype=np.float32)
    for _ in range(30):
        await transport.send(frame)
    frame[:] = 9  # loud: clipped
    await transport.send(frame)
    assert not output.exists()
    await transport.finish()
    await transport.finish()
    with pytest.raises(ClosedError, match="send between"):
        await transport.send(frame)
    await transport.aclose()
    await transport.aclose()
    written = await read(output)
    assert written.size == 31 * 1920
    assert (written[: 30 * 1920] == 0.5).all()
    assert written[-1] == np.float32(32767 / 32768)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.wav", "out.wav"]


async def test_cancellation_discards_the_output(tmp_path):
    transport = FileTransport(write_wav(tmp_path / "in.wav", 60.0), tmp_path / "out.wav")
    with anyio.CancelScope() as scope:
        try:
            await transport.start(RATE)
            await transport.send(np.zeros(2 * RATE, dtype=np.float32))
            scope.cancel()
            await transport.receive()
        finally:
            await transport.aclose()
    assert scope.cancelled_caught
    assert [p.name for p in tmp_path.iterdir()] == ["in.wav"]


async def test_closing_while_another_task_reads(tmp_path):
    transport = FileTransport(write_wav(tmp_path / "in.wav", 60.0, 96000))
    await transport.start(RATE)
    async with anyio.create_task_group() as group:
        group.start_soon(transport.aclose)
        with pytest.raises(ClosedError):
            await receive_all(transport)


async def test_output_that_cannot_be_written(tmp_path):
    transport = FileTransport(write_wav(tmp_path / "in.wav"), tmp_path / "no" / "out.wav")
    with pytest.raises(OutputError, match="folder does not exist"):
        await transport.start(RATE)
    await transport.aclose()


async def test_without_output_the_agent_is_dropped(tmp_path):
    transport = FileTransport(write_wav(tmp_path / "in.wav"))
    await transport.start(RATE)
    await transport.send(np.zeros(1920, dtype=np.float32))
    await transport.finish()
    await transport.aclose()
    assert [p.name for p in tmp_path.iterdir()] == ["in.wav"]


async def test_a_file_transport_used_wrongly(tmp_path):
    with pytest.raises(UsageError, match="user_channel"):
        FileTransport(tmp_path / "in.wav", user_channel="middle")
    transport = FileTransport(write_wav(tmp_path / "in.wav"))
    with pytest.raises(UsageError, match="not been started"):
        await transport.receive()
    with pytest.raises(AudioError, match="Hz"):
        await transport.start(1)
    await transport.start(RATE)
    with pytest.raises(UsageError, match="already"):
        await transport.start(RATE)
    await transport.aclose()
    with pytest.raises(ClosedError):
        await transport.receive()
    with pytest.raises(ClosedError):
        await transport.start(RATE)


def run_python(script):
    command = [sys.executable, "-W", "error", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": SOURCE})


def test_a_long_recording_is_never_held_whole(tmp_path):
    """Twenty minutes are 230 MB when decoded at once; and nothing of PyAV's reaches standard error."""
    path = tmp_path / "long.flac"
    second = np.round(tones(1, 48000, 1.0) * 8).astype(np.float32) / 8  # steps: quick to encode
    with av.open(str(path), "w") as output:
        stream = output.add_stream("flac", rate=48000, layout="mono", options={"compression_level": "0"})
        frame = av.AudioFrame.from_ndarray((second * 32767).astype(np.int16), format="s16", layout="mono")
        frame.sample_rate = 48000
        for index in range(1200):
            frame.pts = index * 48000
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    script = f"""
        import anyio, psutil
        from duplex.transports import FileTransport
        async def main():
            rss = psutil.Process().memory_info
            transport = FileTransport({str(path)!r})
            await transport.start(24000)
            samples = (await transport.receive()).size
            first = peak = rss().rss
            try:
                while True:
                    samples += (await transport.receive()).size
                    peak = max(peak, rss().rss)
            except anyio.EndOfStream:
                pass
            await transport.aclose()
            print(samples, (peak - first) // 2**20)
        anyio.run(main)
    """
    result = run_python(textwrap.dedent(script))
    samples, mebibytes = map(int, result.stdout.split())
    assert samples == 1200 * RATE
    assert mebibytes < 60
    assert result.stderr == ""


def test_importing_the_transports_does_not_load_pyav():
    run_python("import sys, duplex.transports; sys.exit('av' in sys.modules)")


def noise(samples):
    return np.random.default_rng(1).standard_normal(samples).astype(np.float32) / 10


@pytest.mark.parametrize("samples", [1, 1920, 100_000])
async def test_memory_delivers_what_it_was_given(samples):
    pcm = noise(samples)
    transport = MemoryTransport(pcm)
    await transport.start(RATE)
    pieces = await receive_all(transport)
    assert all(0 < p.size <= RATE for p in pieces)
    assert np.array_equal(np.concatenate(pieces), pcm)
    assert transport.pending_seconds == 0
    with pytest.raises(anyio.EndOfStream):
        await transport.receive()


async def test_memory_takes_int16_at_any_rate():
    transport = MemoryTransport((noise(44100 * 2) * 32767).astype(np.int16), sample_rate=44100)
    await transport.start(RATE)
    assert sum(p.size for p in await receive_all(transport)) == 2 * RATE


async def test_memory_of_nothing():
    transport = MemoryTransport(np.zeros(0, dtype=np.float32))
    await transport.start(RATE)
    with pytest.raises(anyio.EndOfStream):
        await transport.receive()


@pytest.mark.parametrize("realtime", [False, True])
async def test_memory_tells_realtime(realtime):
    assert MemoryTransport(realtime=realtime).realtime is realtime


async def test_feeding_before_and_after_the_start():
    transport = MemoryTransport(sample_rate=48000)
    pcm = noise(48000)
    await transport.feed(pcm[:1000])
    await transport.start(RATE)
    heard = []

    async def listen():
        heard.extend(await receive_all(transport))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            for start in range(1000, 48000, 700):
                await transport.feed(pcm[start : start + 700])
                await anyio.lowlevel.checkpoint()
            await transport.end()
            await transport.end()
    assert sum(p.size for p in heard) == RATE


async def test_feeding_waits_while_too_much_is_pending():
    transport = MemoryTransport(max_pending_seconds=1.0)
    await transport.start(RATE)
    fed = anyio.Event()
    pcm = noise(10 * RATE)

    async def feed():
        await transport.feed(pcm)
        fed.set()
        await transport.end()

    async with anyio.create_task_group() as group:
        group.start_soon(feed)
        await anyio.wait_all_tasks_blocked()
        assert not fed.is_set()
        assert 1.0 < transport.pending_seconds <= 1.5
        heard = await receive_all(transport)
    assert np.array_equal(np.concatenate(heard), pcm)


async def test_fed_audio_is_copied():
    transport = MemoryTransport()
    await transport.start(RATE)
    buffer = np.ones(10, dtype=np.float32)
    await transport.feed(buffer)
    buffer[:] = 0
    assert (await transport.receive()).tolist() == [1.0] * 10


async def test_a_cancelled_receive_loses_nothing():
    transport = MemoryTransport()
    await transport.start(RATE)
    with anyio.move_on_after(0.01):
        await transport.receive()
    await transport.feed(np.ones(10, dtype=np.float32))
    assert (await transport.receive()).size == 10


async def test_closing_wakes_those_who_wait():
    transport = MemoryTransport(max_pending_seconds=0.1)
    await transport.start(RATE)
    woken = []

    async def wait_for(error, call, *args):
        with pytest.raises(error):
            await call(*args)
        woken.append(error)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(wait_for, ClosedError, transport.receive)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(wait_for, anyio.EndOfStream, transport.hear)
            await anyio.wait_all_tasks_blocked()
            await transport.aclose()
    other = MemoryTransport(max_pending_seconds=0.1)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(wait_for, ClosedError, other.feed, noise(RATE * 5))
            await anyio.wait_all_tasks_blocked()
            await other.aclose()
            await other.aclose()
    assert len(woken) == 3


async def test_hearing_the_agent():
    transport = MemoryTransport()
    await transport.start(RATE)
    heard = []

    async def listen():
        try:
            while True:
                heard.append(await transport.hear())
        except anyio.EndOfStream:
            assert transport.finished

    assert transport.agent_pcm.size == 0
    buffer = np.zeros(1920, dtype=np.float32)
    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        for index in range(5):
            buffer[:] = index
            await transport.send(buffer)
        assert not transport.finished
        await transport.finish()
    assert [frame[0] for frame in heard] == [0, 1, 2, 3, 4]
    assert transport.agent_pcm.shape == (5 * 1920,)
    with pytest.raises(ClosedError):
        await transport.send(buffer)


async def test_a_memory_transport_used_wrongly():
    with pytest.raises(AudioError, match="shape"):
        MemoryTransport(np.zeros((2, 2), dtype=np.float32))
    with pytest.raises(AudioError, match="Hz"):
        MemoryTransport(sample_rate=10)
    with pytest.raises(UsageError, match="max_pending_seconds"):
        MemoryTransport(max_pending_seconds=0)
    transport = MemoryTransport()
    with pytest.raises(UsageError, match="not been started"):
        await transport.receive()
    await transport.start(RATE)
    with pytest.raises(UsageError, match="already"):
        await transport.start(RATE)
    with pytest.raises(AudioError, match="NaN"):
        await transport.feed([np.nan])
    await transport.end()
    with pytest.raises(ClosedError, match="ended"):
        await transport.feed([0.0])
    await transport.aclose()
    with pytest.raises(ClosedError, match="over"):
        await transport.feed([0.0])
    with pytest.raises(ClosedError):
        await transport.start(RATE)
    with pytest.raises(ClosedError):
        await transport.receive()
