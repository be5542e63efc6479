"""The same weights in the original `moshi` package, for `codec_quality.py`: whether codes and audio are the same.

It runs in a process of its own, in the environment whose interpreter is given. Its loader computes in float32, whatever
type the file has, and insists on every name that it knows.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duplex.backends.torch.codec import TorchCodec
from duplex.checkpoints import checkpoint
from duplex.checkpoints.layout import MIMI_CONFIG

__all__ = ["against_original"]

Float32 = NDArray[np.float32]
SCRIPT = """
import json, sys, numpy as np, torch
from moshi.models import loaders
from safetensors.torch import load_file
torch.set_grad_enabled(False)
folder, weights, config = sys.argv[1:4]
config = json.loads(config)
refused = None
try:
    mimi = loaders.get_mimi(weights, config, num_codebooks=8)
except RuntimeError as error:
    refused = str(error)
    mimi = loaders.get_mimi(None, config, num_codebooks=8)
    names = mimi.load_state_dict(load_file(weights), strict=False)
    if names.missing_keys or names.unexpected_keys:
        ends = sorted({name.rsplit(".", 1)[-1] for name in names.missing_keys})
        refused = f"{len(names.missing_keys)} names are missing, all ending in {', '.join(ends)}; "
        refused += f"{len(names.unexpected_keys)} are unexpected"
pcm = torch.from_numpy(np.load(folder + "/pcm.npy"))[None, None]
size = mimi.frame_size
with mimi.streaming(1):
    codes = [mimi.encode(pcm[..., i : i + size]) for i in range(0, pcm.shape[-1], size)]
    made = [mimi.decode(column) for column in codes]
np.savez(folder + "/made.npz", codes=torch.cat(codes, -1)[0].numpy(), pcm=torch.cat(made, -1)[0, 0].numpy())
print(json.dumps({"refused": refused, "dtype": str(next(mimi.parameters()).dtype)}))
"""


def against_original(codec: TorchCodec, model: str, python: str, speech: Float32) -> dict[str, Any]:
    """Return how many codes differ, and the largest difference of the audio that both make of the original's codes.

    ``refused`` is what the original's loader says of the file, if it does not take it as it is.
    """
    about, expected = _original(model, python, speech)
    size, stream = codec.spec.frame_size, codec.stream()
    codes = np.concatenate([stream.encode(speech[i : i + size]) for i in range(0, len(speech), size)], axis=1)
    wanted = expected["codes"][: codec.spec.codebooks]
    made = np.concatenate([stream.decode(wanted[:, i : i + 1]) for i in range(wanted.shape[1])])
    return {
        **about,
        "codes": int(codes.size),
        "codes_different": int((codes != wanted).sum()),
        "audio_difference": float(np.abs(made - expected["pcm"]).max()),
        "audio_peak": float(np.abs(expected["pcm"]).max()),
    }


def _original(model: str, python: str, speech: Float32) -> tuple[dict[str, Any], Mapping[str, NDArray[Any]]]:
    """Run the original frame by frame; return what it says of itself, and its codes and audio."""
    weights = checkpoint.resolve(model, parts=("codec",)).mimi_weights
    assert weights is not None  # noqa: S101 -- the part that was asked for
    config = (weights.parent / MIMI_CONFIG).read_text(encoding="utf-8")
    environment = os.environ | {"NO_TORCH_COMPILE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "pcm.npy", speech)
        command = [python, "-c", SCRIPT, folder, str(weights), config]
        about = json.loads(subprocess.check_output(command, env=environment).splitlines()[-1])
        with np.load(Path(folder) / "made.npz") as made:
            return about, dict(made)
