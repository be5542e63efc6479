"""Samples without a header, which decoders guess at, and NIST SPHERE, which has one."""

import numpy as np
import pytest
from audio_files_support import RATE, read, tones

from duplex.errors import AudioFileError

pytestmark = pytest.mark.anyio
PCM = np.concatenate([np.zeros(200), tones(1, 8000, 30.0)[0]])
PLAIN = {
    "s16": (PCM * 32767).astype("<i2").tobytes(),
    "f32": PCM.astype("<f4").tobytes(),
    "quiet": (4 + PCM[:100000] * 100).astype("<i2").tobytes(),
    "bytes": (128 + PCM * 127).astype("u1").tobytes(),
    "noise": np.random.default_rng(0).bytes(400_000),
    "text": b"Dear diary, this is only a text.\n" * 20_000,
    "zeros": bytes(400_000),
}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.mark.parametrize(
    "suffix", ["raw", "pcm", "txt", "sln", "g722", "gsm", "g729", "ul", "sw", "rco", "wav", "mp3", "aac"]
)
@pytest.mark.parametrize("kind", PLAIN)
async def test_plain_samples_are_not_heard(tmp_path, kind, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(PLAIN[kind])
    with pytest.raises(AudioFileError, match=r"a\."):
        await read(path)


async def test_the_way_out_is_told(tmp_path):
    path = tmp_path / "a.sln"
    path.write_bytes(PLAIN["s16"])
    with pytest.raises(AudioFileError, match=r"no header.*ffmpeg -f s16le"):
        await read(path)


def sphere(path, sound, **fields):
    """Write a NIST SPHERE file: a text header of 1024 bytes, and samples."""
    lines = [f"{name} -{'i' if isinstance(value, int) else f's{len(value)}'} {value}" for name, value in fields.items()]
    header = "\n".join(["NIST_1A", "   1024", *lines, "end_head", ""]).encode()
    path.write_bytes(header.ljust(1024) + sound)
    return path


@pytest.mark.parametrize(("order", "kind"), [("01", "<i2"), ("10", ">i2")])
async def test_sphere(tmp_path, order, kind):
    left, right = tones(2, 8000, 2.0)
    sound = (np.stack([left, right], 1) * 32767).astype(kind).tobytes()
    path = sphere(
        tmp_path / "a.sph",
        sound,
        channel_count=2,
        sample_count=16000,
        sample_rate=8000,
        sample_n_bytes=2,
        sample_byte_format=order,
        sample_coding="pcm",
    )
    for channel, peak in (("left", 0.4), ("right", 0.2)):
        heard = await read(path, user_channel=channel)
        assert heard.size == 2 * RATE
        assert np.abs(heard[1000:-1000]).max() == pytest.approx(peak, abs=0.01)


async def test_sphere_of_a_telephone(tmp_path):
    """Mu-law, as in Switchboard and Fisher: 0xFF is silence, 0x80 and 0x00 are the loudest."""
    sound = np.tile(np.repeat([0xFF, 0x80, 0xFF, 0x00], 1000), 4).astype("u1").tobytes()
    fields = {"channel_count": 1, "sample_count": 16000, "sample_rate": 8000, "sample_n_bytes": 1}
    heard = await read(sphere(tmp_path / "a.sph", sound, **fields, sample_byte_format="1", sample_coding="ulaw"))
    assert heard.size == 2 * RATE
    assert [round(float(heard[1500 + 3000 * step]), 1) for step in range(4)] == [0, 1, 0, -1]


@pytest.mark.parametrize("coding", ["pcm,embedded-shorten-v2.00", "ulaw,embedded-shorten-v2.00"])
async def test_sphere_that_is_compressed(tmp_path, coding):
    path = sphere(tmp_path / "a.sph", b"ajkg" + bytes(5000), channel_count=1, sample_rate=8000, sample_coding=coding)
    with pytest.raises(AudioFileError, match="sph2pipe"):
        await read(path)
