"""What loading a model keeps and imports: no page of the weights file, and none of what PyTorch compiles with."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

MAPS = Path("/proc/self/maps")
HEAVY = ("torch._dynamo", "sympy", "triton", "huggingface_hub", "httpx", "yaml", "matplotlib")
LOADS = f"""
import sys
import numpy as np
import duplex
with duplex.load("tiny", backend="torch", device="cpu") as model:
    assert model.codec.encode(np.zeros(1920, np.float32)).shape == (model.spec.agent_streams, 1)
print(*[name for name in {HEAVY} if name in sys.modules])
"""


def test_nothing_is_imported_that_a_step_does_without():
    """Each would take longer than all that is needed."""
    done = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


@pytest.mark.skipif(not MAPS.exists(), reason="needs Linux's list of mapped files")
def test_no_page_of_the_weights_is_held(checkpoint_reference, opened):
    """The files can be replaced under a running server; weights in float32 are taken as they are in the file."""
    stored = load_file(checkpoint_reference.folder / "model.safetensors")
    assert any(weight.dtype == np.float32 for weight in stored.values())
    opened(checkpoint_reference.load())
    assert str(checkpoint_reference.folder) not in MAPS.read_text()
