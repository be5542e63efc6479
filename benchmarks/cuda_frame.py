"""Measure a whole frame of Moshi's real 7B shape on a CUDA GPU: time by stage and by number of sessions, and memory.

    python benchmarks/cuda_frame.py [--quantize int8] [--cache-dtype int8] [--sessions 1 32] [--context 0 3000]

Weights are random, which costs what trained ones cost. A context of 3000 fills the past of every session, as after
four minutes of conversation. ``--original`` times the original package, where it is installed, in the same run;
``--minutes 30`` steps through so long a conversation, frame after frame, and says how long frames take as it goes on.
"""

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from duplex.backends.torch.language_model import LanguageModel
from duplex.backends.torch.linear import put
from duplex.backends.torch.mimi import Mimi
from duplex.backends.torch.model import TorchFrameModel
from duplex.backends.torch.prepacking import prepack
from duplex.backends.torch.quantize import Quantized, quantizable
from duplex.backends.torch.sampling import Sampling
from duplex.backends.torch.state import Call, Rows
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.mimi_config import MimiConfig
from duplex.checkpoints.tokenizer import Tokenizer
from duplex.engine.model import Model
from duplex.options import SessionOptions
from duplex.testing import FakeTokenizer

DEVICE = torch.device("cuda")
WARM_UP = 5
"""Frames that are not counted."""
OPTIONS = SessionOptions(temperature=0.8, text_temperature=0.7, top_k=250, text_top_k=25, seed=1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quantize", choices=["int8", "fp8", "int4"])
    parser.add_argument("--cache-dtype", choices=["auto", "int8"], default="auto")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1])
    parser.add_argument("--context", type=int, nargs="+", default=[0, 3000])
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--minutes", type=int, default=0, help="How long a conversation to step through at the end.")
    parser.add_argument("--original", action="store_true")
    parser.add_argument("--profile", action="store_true", help="Print what takes the time, kernel by kernel.")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for sessions in arguments.sessions:
        rows += measure(sessions, arguments)
    if arguments.original:
        rows.append(original(arguments.frames))
    show(rows)
    if arguments.json:
        about = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": rows}
        arguments.json.write_text(json.dumps(about, indent=1) + "\n")


def measure(sessions: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Load a model with so many slots and time its frames in each context."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    model = load(sessions, arguments.quantize, int8_cache=arguments.cache_dtype == "int8")
    loaded = time.perf_counter() - started
    rows: list[dict[str, Any]] = []
    for context in arguments.context:
        begin(model, context)
        times = frame_times(model, arguments.frames)
        rows.append(
            {
                "weights": arguments.quantize or "bf16",
                "cache": "int8" if arguments.cache_dtype == "int8" else "bf16",
                "sessions": sessions,
                "context": context,
                **quantiles(times),
                **(stages(model) if sessions == max(arguments.sessions) or len(arguments.sessions) < 3 else {}),
                "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
                "load_s": loaded,
            }
        )
    if arguments.minutes:
        converse(model, arguments.minutes)
    if arguments.profile:  # last, as graphs are slower for the rest of a process that has been profiled
        profile(model)
    model.close()
    return rows


def load(sessions: int, quantize: Any, *, int8_cache: bool) -> TorchFrameModel:
    """Return a model with random weights, each made and rounded on its own."""
    with torch.device("meta"):
        lm, mimi = LanguageModel(LanguageModelConfig()), Mimi(MimiConfig(), 8)
    fill(lm, torch.bfloat16, quantize)
    fill(mimi, torch.float32, None)
    lm.transformer.ring.quantized = int8_cache
    lm.prepare()
    mimi.prepare()
    prepack(mimi)
    return TorchFrameModel(mimi, lm, sessions=sessions, deterministic=False, fingerprint="random")


def seven_billion(sessions: int) -> Model:
    """Return a whole model of Moshi's size for a server, weights and caches in 8 bits."""
    frame_model = load(sessions, "int8", int8_cache=True)
    tokenizer = cast("Tokenizer", FakeTokenizer(frame_model.spec.text_vocabulary))
    return Model(frame_model, tokenizer, name="7b", backend="torch", device=str(DEVICE), defaults=OPTIONS)


@torch.no_grad()
def fill(module: nn.Module, dtype: torch.dtype, quantize: Any) -> None:
    """Give a module built on the meta device weights with which signals keep their size."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    weights: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        if name.endswith(("alpha", "cluster_usage")) or ("norm" in name and name.endswith("weight")):
            weights[name] = torch.ones(tensor.shape, dtype=dtype, device=DEVICE)
            continue
        value = torch.randn(tensor.shape, dtype=dtype, device=DEVICE, generator=generator)
        value *= max(1, tensor[0].numel() if tensor.dim() > 1 else 1) ** -0.5
        if quantize and quantizable(name, tensor.shape):
            put(module, name, Quantized.of(value, quantize))
        else:
            weights[name] = value
    module.load_state_dict(weights, assign=True)
    module.requires_grad_(requires_grad=False).eval()


@torch.inference_mode()
def begin(model: TorchFrameModel, context: int) -> None:
    """Open every slot and make it as full as after ``context`` frames."""
    for slot in range(model.spec.capacity):
        model.open(slot, OPTIONS)
        model.slots[slot].frames = max(context, 2)
    for name, tensor in model.state.tensors.items():
        if ".cache." in name and context:
            tensor.random_(-100, 100) if tensor.dtype == torch.int8 else tensor.normal_()
        elif name.endswith("position"):
            tensor.fill_(max(context, 2) * (2 if "mimi" in name else 1))
        elif name == "lm.step":
            tensor.fill_(max(context, 2))


def frame_times(model: TorchFrameModel, frames: int) -> list[float]:
    """Return the milliseconds of whole steps, numpy to numpy."""
    random = np.random.default_rng(0)
    spec, times = model.spec, []
    pcm = random.normal(0, 0.1, (spec.capacity, spec.frame_size)).astype(np.float32)
    active = np.ones(spec.capacity, bool)
    for _ in range(frames + WARM_UP):
        start = time.perf_counter()
        model.step(pcm, active)
        times.append(1000 * (time.perf_counter() - start))
    return times[WARM_UP:]


def converse(model: TorchFrameModel, minutes: int, at_a_time: int = 3) -> None:
    """Print the times of a conversation's frames and the memory held, some minutes at a time."""
    begin(model, 0)
    for start in range(0, minutes, at_a_time):
        found = quantiles(frame_times(model, at_a_time * 60 * 1000 // 80 - WARM_UP))
        told = ", ".join(f"{name.removesuffix('_ms')} {value:.2f} ms" for name, value in found.items())
        held = torch.cuda.memory_allocated() / 1e9
        print(f"minutes {start} to {start + at_a_time}: {told}, {held:.3f} GB held", flush=True)


def quantiles(times: list[float]) -> dict[str, float]:
    """Return median and the upper percentiles, in milliseconds."""
    ordered = sorted(times)
    return {
        "median_ms": statistics.median(ordered),
        "p95_ms": ordered[int(0.95 * (len(ordered) - 1))],
        "p99_ms": ordered[int(0.99 * (len(ordered) - 1))],
    }


@torch.inference_mode()
def stages(model: TorchFrameModel) -> dict[str, float]:
    """Return the milliseconds of each stage, captured on its own."""
    mimi, lm, spec = model._mimi, model._lm, model.spec
    rows = Rows(torch.arange(spec.capacity, device=DEVICE))
    call = Call(model.state, rows)
    heard = torch.randn(spec.capacity, spec.frame_size, device=DEVICE)
    user = torch.randint(0, 2048, (spec.capacity, spec.user_streams), device=DEVICE)
    said = torch.randint(0, 2048, (spec.capacity, spec.agent_streams, 1), device=DEVICE)
    columns = torch.randint(0, 2048, (spec.capacity, spec.streams, 1), device=DEVICE)
    found = {
        "encode_ms": replayed(lambda: mimi.encode(heard, call)),
        "temporal_ms": replayed(lambda: lm.temporal(columns, call)),
        "lm_ms": replayed(lambda: lm(user, call, Sampling.of([OPTIONS]))),
        "decode_ms": replayed(lambda: mimi.decode(said, call)),
    }
    found["depth_ms"] = found.pop("lm_ms") - found["temporal_ms"]
    return found


def replayed(compute: Callable[[], Any], repeats: int = 30) -> float:
    """Return the milliseconds of a captured computation."""
    compute()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        compute()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    graph.replay()
    start.record()
    for _ in range(repeats):
        graph.replay()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / repeats


def profile(model: TorchFrameModel) -> None:
    """Print the kernels of ten frames by the time that they take."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        frame_times(model, 5)
    print(seen.key_averages().table(sort_by="cuda_time_total", row_limit=28, max_name_column_width=70))


def original(frames: int) -> dict[str, Any]:
    """Return the time of the original package's frame: its codec, its graphs, its step, one session."""
    from moshi.models import LMGen, loaders  # noqa: PLC0415 -- installed by whoever asks for it

    torch.cuda.reset_peak_memory_stats()
    mimi = loaders.get_mimi(None, device="cuda")
    lm = loaders.get_moshi_lm(None, device="cuda", dtype=torch.bfloat16)
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.normal_(std=0.02)
        generator = LMGen(lm, temp=0.8, temp_text=0.7, top_k=250, top_k_text=25)
        mimi.streaming_forever(1)
        generator.streaming_forever(1)
        pcm = torch.randn(1, 1, 1920)
        times: list[float] = []
        for _ in range(frames + 10):
            start = time.perf_counter()
            tokens = generator.step(mimi.encode(pcm.to("cuda")))
            if tokens is not None:
                mimi.decode(tokens[:, 1:]).cpu()
            torch.cuda.synchronize()
            times.append(1000 * (time.perf_counter() - start))
    peak = torch.cuda.max_memory_allocated() / 1e9
    return {"weights": "original, bf16", "sessions": 1, "context": frames, **quantiles(times[10:]), "peak_gb": peak}


def show(rows: list[dict[str, Any]]) -> None:
    """Print a table."""
    columns = ["weights", "cache", "sessions", "context", "median_ms", "p95_ms", "p99_ms", "encode_ms", "temporal_ms"]
    columns += ["depth_ms", "decode_ms", "peak_gb", "load_s"]
    table = Table(*columns, title=f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    for row in rows:
        cells = [row.get(column, "") for column in columns]
        table.add_row(*(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
