"""Reference checkpoints (``tests/data/reference``, made by the original; see each folder's config.json), and models."""

import contextlib
import importlib
import os
from pathlib import Path

import attrs
import numpy as np
import pytest
from safetensors.numpy import load_file

from duplex.checkpoints import checkpoint
from duplex.options import SessionOptions
from duplex.testing import fake_model

os.environ.setdefault("DUPLEX_PRODUCTS", "fixed")  # what is timed depends on the machine; who tests that takes it away
REFERENCE = Path(__file__).parent / "data" / "reference"


@attrs.frozen
class Reference:
    """A checkpoint in the published layout, and what the original computes from it."""

    name: str
    folder: Path
    expected: dict

    @property
    def frames(self):
        """The user's audio, ``[frames, 1920]``."""
        return self.expected["pcm"].reshape(-1, 1920)

    def load(self, folder=None, *, backend="torch", **options):
        """Return a bare FrameModel."""
        if backend == "torch":
            import torch  # noqa: PLC0415 -- most tests do without

            torch.set_num_threads(1)  # these models are too small to share
        loader = importlib.import_module(f"duplex.backends.{backend}")
        found = checkpoint.resolve(str(folder or self.folder))
        defaults = {
            "device": "cpu",
            "dtype": "float32",
            "quantize": None,
            "cache_dtype": "auto",
            "sessions": 1,
            "deterministic": True,
        }
        return loader.load_model(
            found.language_model,
            found.mimi,
            weights=found.weights,
            mimi_weights=found.mimi_weights,
            **{"fingerprint": found.fingerprint, **defaults, **options},
        )


GREEDY = SessionOptions(temperature=0.0, text_temperature=0.0, top_k=0, text_top_k=0, seed=0, greedy=True)
SAMPLED = SessionOptions(temperature=0.8, text_temperature=0.7, top_k=30, text_top_k=25, seed=7)

DEPTHS = (0, 1, 2, 5, 17, 33, 250, 257, 1000, 2**20, 2**31)
"""Top-k that callers may ask for, also beyond any vocabulary."""


def reference(name):
    return Reference(name, REFERENCE / name, load_file(REFERENCE / name / "expected.safetensors"))


@pytest.fixture(scope="session")
def small():
    """Delays of 0 and 1, as Moshi's."""
    return reference("small")


@pytest.fixture(scope="session")
def delay2():
    """A maximum delay of 2: a frame comes out when the next has gone in."""
    return reference("delay2")


@pytest.fixture(scope="session", params=["small", "delay2"])
def checkpoint_reference(request):
    """Each reference checkpoint."""
    return request.getfixturevalue(request.param)


class Run:
    """One conversation on a bare FrameModel, and what came out of it."""

    def __init__(self, model, slot=0, options=SAMPLED, *, opened=False):
        self.model, self.slot = model, slot
        self.text, self.agent, self.user, self.pcm, self.times = [], [], [], [], []
        if not opened:
            model.open(slot, options)

    def inputs(self, frame):
        spec = self.model.spec
        pcm, active = np.zeros((spec.capacity, spec.frame_size), np.float32), np.zeros(spec.capacity, bool)
        pcm[self.slot], active[self.slot] = frame, True
        return pcm, active

    def take(self, result):
        if result.valid[self.slot]:
            self.times.append(int(result.time_step[self.slot]))
            self.text.append(int(result.text[self.slot]))
            self.agent.append(result.agent[self.slot].tolist())
            self.user.append(result.user[self.slot].tolist())
            self.pcm.append(result.pcm[self.slot].copy())

    def hear(self, frames):
        for frame in frames:
            self.take(self.model.step(*self.inputs(frame)))
        return self

    def flush(self):
        return self.hear(np.zeros((self.model.spec.latency_frames, self.model.spec.frame_size), np.float32))

    @property
    def tokens(self):
        """int64 ``[streams, n]``."""
        return np.concatenate([[self.text], np.array(self.agent).T, np.array(self.user).T])

    def __eq__(self, other):
        return np.array_equal(self.tokens, other.tokens) and np.array_equal(self.pcm, other.pcm)

    __hash__ = None


@pytest.fixture(scope="session")
def run():
    """The class that holds a conversation on a bare FrameModel."""
    return Run


@pytest.fixture
def depths(sampled):
    """Options of many depths, of the text and of the codes."""
    return [
        attrs.evolve(sampled, top_k=top_k, text_top_k=text, seed=text)
        for top_k, text in zip(DEPTHS * 2, (*reversed(DEPTHS), *DEPTHS), strict=True)
    ]


@pytest.fixture
def opened():
    """Models to close when the test is over: ``model = opened(reference.load())``."""
    with contextlib.ExitStack() as stack:

        def keep(model):
            stack.callback(model.close)
            return model

        yield keep


@pytest.fixture(scope="session")
def greedy():
    return GREEDY


@pytest.fixture(scope="session")
def sampled():
    return SAMPLED


@pytest.fixture
def models():
    """Makes models without weights, which must have all places free again when the test is over."""
    made = []

    def make(**options):
        made.append(fake_model(**options))
        return made[-1]

    yield make
    for model in made:
        assert model.free == model.sessions
        model.close()


MANY_CASES = (
    "test_adapted_models.py",
    "test_adapters.py",
    "test_bad_output.py",
    "test_bad_recordings.py",
    "test_flush_on_pause.py",
    "test_imitation.py",
    "test_kernels.py",
    "test_mlx_reference.py",
    "test_mlx_slots.py",
    "test_saved_speech.py",
    "test_surroundings.py",
    "test_synthesis_slots.py",
    "test_session_adapters.py",
    "test_torch_quantize.py",
    "test_torch_reference.py",
    "test_torch_slots.py",
    "test_torch_states.py",
    "test_torch_tracing.py",
)
"""Files whose cases take long (Triton in its interpreter, whole models, commands): the first of each test is quick."""
ON_BOTH_LOOPS = (
    "test_hostile_states.py",
    "test_imitation.py",
    "test_personas.py",
    "test_saved_speech.py",
    "test_sharing.py",
    "test_speaker.py",
)
"""Files whose tests hold conversations on both backends and event loops: quick on asyncio, and with MLX on Trio too."""


BIG_ON_BOTH_LOOPS = ("test_memory_is_flat", "test_sixteen_side_by_side_are_what_each_is_alone")
"""Tests of much work that is the same on every event loop: quick on asyncio."""


def pytest_collection_modifyitems(items):
    seen = set()
    for item in items:
        test = item.nodeid.partition("[")[0]
        if (item.path.name in MANY_CASES and test in seen) or is_slow_on_trio(item):
            item.add_marker(pytest.mark.slow)
        seen.add(test)


def is_slow_on_trio(item):
    held = item.path.name in ON_BOTH_LOOPS or getattr(item, "originalname", None) in BIG_ON_BOTH_LOOPS
    if not held or not hasattr(item, "callspec"):
        return False
    parameters = item.callspec.params.values()
    return "trio" in parameters and "mlx" not in parameters
