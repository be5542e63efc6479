"""Models that are forgotten, closed while a step hangs, left open at the end of a program, or carried into a fork."""

import gc
import os
import subprocess
import sys
import textwrap
import threading
import warnings
import weakref

import numpy as np
import pytest
import torch
from engine_support import LOUD, Desk, Gate, engines  # noqa: F401

import duplex
from cli_support import SMALL
from duplex.engine.outcomes import Failed
from duplex.errors import ClosedError
from duplex.testing import FakeFrameModel, fake_model
from server_support import until

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("duplex-")]


def program(text, *, before=""):
    """Run a program that loads a small model as ``model``; return its status and what it wrote."""
    head = f"{before}\nimport asyncio, os, signal, sys, threading\nimport numpy as np\nimport duplex\n"
    head += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
    source = head + f"model = duplex.load({SMALL!r})\n" + textwrap.dedent(text)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout.strip(), done.stderr


@pytest.mark.parametrize("_", range(20))
def test_a_forgotten_model_is_closed(_):
    """And no thread of it is left, however busy the machine is."""
    before = threads()
    model = fake_model()
    frame_model = model.frame_model
    with pytest.warns(ResourceWarning, match="'fake' was forgotten"):
        del model
    assert frame_model.closed
    assert not set(threads()).difference(before)


def test_a_closed_model_is_not_warned_of():
    with fake_model() as model:
        pass
    kept = weakref.ref(model)
    del model
    assert kept() is None


def test_a_model_in_a_cycle_that_the_inference_thread_collects():
    """The garbage collector runs in any thread; that one cannot wait for itself."""
    freed = threading.Event()

    class Freed(FakeFrameModel):
        def close(self):
            super().close()
            freed.set()

    model = duplex.Model(Freed(on_step=lambda _step: gc.collect()), None, name="cyclic")
    desk = Desk(model.engine)
    model.itself = model
    gc.disable()
    try:
        with warnings.catch_warnings(record=True, action="always"):  # given, or not, by the same thread
            del model
            desk.seat.push(LOUD)
            assert freed.wait(20)
    finally:
        gc.enable()
    assert isinstance(desk.until_kind(Failed)[-1].error, ClosedError)


def test_a_model_without_a_thread_is_freed(monkeypatch):
    """Where the system has no thread for it; the watchdog's own would keep it."""
    start = threading.Thread.start

    def none_left(thread):
        if thread.name == "duplex-inference":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", none_left)
    frame_model = FakeFrameModel()
    with pytest.raises(RuntimeError, match="new thread"):
        duplex.Model(frame_model, None, name="without a thread")
    assert frame_model.closed
    until(lambda: not threads())
    freed = weakref.ref(frame_model)
    del frame_model
    gc.collect()
    assert freed() is None


def test_loading_again_keeps_nothing():
    """Neither the weights nor what has been traced of them."""

    def tensors():
        gc.collect()
        return sum(type(each) is torch.Tensor for each in gc.get_objects())

    before = None
    for _ in range(3):
        with duplex.load(SMALL, backend="torch", device="cpu") as model:
            model.codec.stream().encode(np.zeros(1920, np.float32))
        del model
        before = tensors() if before is None else before
    assert tensors() <= before


def test_a_step_that_hangs_does_not_hold_whoever_closes(engines, caplog):
    gate = Gate()
    engine = engines(on_step=gate)
    desk = Desk(engine)
    gate.shut()
    desk.seat.push(LOUD)
    assert gate.reached.wait(20)
    engine.close(0.01)
    assert isinstance(desk.until_kind(Failed)[-1].error, ClosedError)
    assert "when it ends" in caplog.text
    assert not engine.model.closed
    gate.open.set()
    engine._thread.join(20)
    assert engine.model.closed


@pytest.mark.parametrize(
    ("end", "status"),
    [("break", 0), ("sys.exit(3)", 3), ("raise LookupError('mine')", 1), ("os.kill(os.getpid(), 2)", -2)],
)
def test_a_program_that_ends_without_closing(end, status):
    found, _, told = program(f"""
        async def main():
            async with duplex.Conversation(model) as conversation:
                async for event in conversation.run(np.zeros(24000 * 30, np.float32)):
                    if event.sequence == 20:
                        {end}
        asyncio.run(main())
        """)
    assert found in (status, 128 - status), told
    assert "terminate called" not in told


def test_torch_computes_on_as_many_threads_as_before():
    counted = "import torch\ntorch.set_num_threads(2)\n"
    status, told, error = program(
        """
        def count():
            found.append(torch.get_num_threads())
        def in_a_thread():
            thread = threading.Thread(target=count)
            thread.start()
            thread.join()
        found = []
        count(), in_a_thread()
        async def main():
            async with duplex.Conversation(model) as conversation:
                async for event in conversation.run(np.zeros(9600, np.float32)):
                    in_a_thread()
        asyncio.run(main())
        model.codec.encode(np.zeros(9600, np.float32))
        model.close()
        count(), in_a_thread()
        print(*set(found))
        """,
        before=counted,
    )
    assert (status, told) == (0, "2"), error


@forks
def test_a_fork_is_told_at_once():
    status, told, error = program("""
        codec = model.codec
        uses = [
            lambda: asyncio.run(duplex.Conversation(model).__aenter__()),
            lambda: model.codec,
            lambda: codec.encode(np.zeros(1920, np.float32)),
            lambda: asyncio.run(model.detectors.detect(None, None)),
        ]
        child = os.fork()
        if child == 0:
            for use in uses:
                try:
                    use()
                    sys.exit(8)
                except duplex.errors.ForkError as error:
                    print(error, flush=True)
            model.close()
            del model, codec
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        with model:
            model.codec.encode(np.zeros(1920, np.float32))
        """)
    assert status == 0, error
    assert told.splitlines()[-1] == "7"
    assert told.count("load the model in the process that uses it") == 4
