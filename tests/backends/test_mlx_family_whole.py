"""What the repository has no room for of the relatives' reference, on the MLX backend, where it is given."""

from pathlib import Path

import attrs
import numpy as np
import pytest
from family_support import GREEDY, WHOLE, load_family, said, voices_of
from safetensors.numpy import load_file

from duplex.frame_model import Conditions

mx = pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'duplex-speech[mlx]'")
synthesis_of = pytest.importorskip("mlx_synthesis_support")

pytestmark = pytest.mark.skipif(not WHOLE, reason="DUPLEX_FAMILY_REFERENCE names no folder")
ROOT = Path(WHOLE or ".")
TWO = attrs.evolve(GREEDY, guidance=2.0)


@pytest.mark.parametrize("name", ["stt", "stt-prefix"])
def test_recognition(name):
    """A step's text comes out with the next one's; the example script's first step hears nothing of its frame."""
    model, expected = load_family(name, "mlx", ROOT)
    for prefix, first in (("", 0), ("script_", 1)):
        model.open(0, GREEDY)
        codes = expected[f"{prefix}codes"][:, first:]
        text, _ = said(model, 0, codes)
        np.testing.assert_array_equal(text[1:], expected[f"{prefix}text"][first:-1])
    model.close()


@pytest.mark.parametrize(
    ("name", "run", "options", "words", "streams"),
    [
        ("tts", "", GREEDY, {"control": "ok", "cfg": "2.0"}, None),
        ("tts", "nq4.", GREEDY, {"control": "ok", "cfg": "2.0"}, 4),
        ("tts-cfg", "cfg1.", GREEDY, {"control": "ok"}, None),
        ("tts-cfg", "", TWO, {"control": "ok"}, None),
        ("tts-prefix", "", TWO, None, None),
    ],
)
def test_synthesis(name, run, options, words, streams):
    expected = load_file(ROOT / name / "expected.safetensors")
    made, prefix = synthesis_of.Synthesis(ROOT / name), expected.get("prefix")
    if words is None:
        conditions, prefix = Conditions(masked_until=prefix.shape[1] + synthesis_of.DELAY), prefix[1:]
    else:
        conditions = voices_of(ROOT / name, **words)
    logits, tokens = made.run(expected[f"{run}text"], options, conditions, streams=streams, prefix=prefix)
    np.testing.assert_allclose(logits, expected[f"{run}text_logits"], atol=1e-3)
    frames = expected[f"{run}frames"]
    np.testing.assert_array_equal(tokens[:, : frames.shape[1]], frames)
