"""GGUF files on a hub: what they hold is told from their beginning."""

import numpy as np
import pytest
from hub_support import REPOSITORY, hub

from duplex.checkpoints import gguf_file
from duplex.checkpoints.hub import HubRepository
from duplex.errors import WeightsError

__all__ = ["hub"]
gguf = pytest.importorskip("gguf", reason="GGUF is not installed: pip install 'duplex-speech[gguf]'")


@pytest.fixture
def file(tmp_path):
    """A file whose weights are far more than its header."""
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "moshi")
    for number in range(40):
        writer.add_tensor(f"layers.{number}.weight", np.zeros((256, 64), np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return (tmp_path / "model.gguf").read_bytes()


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("beginnings", [(1 << 16, 1 << 17), (100, 1 << 16)])
def test_the_header_without_the_weights(hub, file, monkeypatch, ranges, beginnings):
    monkeypatch.setattr(gguf_file, "BEGINNINGS", beginnings)
    hub.add({"model.gguf": file})
    hub.ranges = ranges
    repository = HubRepository(REPOSITORY)
    header = repository.read_header("model.gguf")
    assert len(header) == 40
    assert header["layers.7.weight"].shape == (256, 64)
    assert sum(header.bytes.values()) == 40 * 256 * 64 * 4
    assert repository.cached("model.gguf") is None


@pytest.mark.parametrize("content", [b"", b"something else" * 20])
def test_what_is_no_such_file(hub, content):
    hub.add({"model.gguf": content})
    with pytest.raises(WeightsError, match="no GGUF file"):
        HubRepository(REPOSITORY).read_header("model.gguf")
