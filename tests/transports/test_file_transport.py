"""Files as a conversation's transport."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import av
import numpy as np
import pytest
from audio_files_support import RATE, read, receive_all, tones, write_wav

from duplex.errors import AudioError, ClosedError, OutputError, UsageError
from duplex.transports import FileTransport

pytestmark = pytest.mark.anyio


SOURCE = str(Path(__file__).parents[2] / "src")


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
