"""What the tests of transports share."""

from fractions import Fraction

import anyio
import av
import numpy as np

from duplex.transports import FileTransport

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
