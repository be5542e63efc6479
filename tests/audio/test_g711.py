"""G.711, against FFmpeg's decoder, and lines of other rates than the model's."""

import av
import numpy as np
import pytest

from duplex.audio.g711 import compress, expand
from duplex.audio.wire_codecs import AudioFormat, create_wire_codec
from duplex.errors import AudioError

LAWS = ("mulaw", "alaw")
CODES = np.arange(256, dtype=np.uint8)
RATE = 24000


def decoded_by_ffmpeg(law, codes):
    decoder = av.CodecContext.create(f"pcm_{law}", "r")
    decoder.sample_rate, decoder.layout = 8000, "mono"
    return decoder.decode(av.Packet(codes.tobytes()))[0].to_ndarray()[0]


@pytest.mark.parametrize("law", LAWS)
def test_every_code_means_what_it_means_elsewhere(law):
    assert np.array_equal(expand(law, CODES), decoded_by_ffmpeg(law, CODES))


@pytest.mark.parametrize("law", LAWS)
def test_every_code_comes_back(law):
    back = compress(law, expand(law, CODES))
    assert np.array_equal(expand(law, back), expand(law, CODES))


@pytest.mark.parametrize("law", LAWS)
def test_no_sample_is_further_off_than_half_a_step(law):
    pcm = np.arange(-32768, 32768).astype(np.int16)
    error = np.abs(expand(law, compress(law, pcm)).astype(int) - pcm)
    assert (error <= (np.abs(pcm.astype(int)) + 256) / 32 + 1).all()  # a step is a sixteenth of its segment's start


@pytest.mark.parametrize(
    "audio_format",
    [AudioFormat("mulaw", 8000), AudioFormat("alaw", 8000), AudioFormat("pcm", 16000), AudioFormat("pcm")],
    ids=lambda each: f"{each.encoding}{each.sample_rate}",
)
def test_a_tone_survives_the_line(audio_format):
    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)
    there, back = create_wire_codec(audio_format, RATE), create_wire_codec(audio_format, RATE)
    frames = [there.encode(frame) for frame in tone.reshape(-1, RATE // 100)]
    heard = np.concatenate([*(back.decode(frame) for frame in frames), back.flush()])
    assert abs(heard.size - tone.size) < RATE // 20
    middle = slice(RATE // 10, heard.size - RATE // 10)
    assert np.sqrt(np.mean((heard[middle] - tone[: heard.size][middle]) ** 2)) < 0.01


def test_too_much_in_one_message():
    codec = create_wire_codec(AudioFormat("mulaw", 8000), RATE)
    with pytest.raises(AudioError, match="in pieces"):
        codec.decode(bytes(80_001))
    with pytest.raises(AudioError, match="whole samples"):
        create_wire_codec(AudioFormat("pcm", 16000), RATE).decode(b"abc")
