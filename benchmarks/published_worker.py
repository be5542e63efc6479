"""One of the two programs that `published.py` compares, in a process and an environment of its own.

    PYTHON published_worker.py original|duplex REQUEST.json FOLDER

``original`` runs where the package `moshi` is installed, ``duplex`` where this one is. Both hear the same frames,
choose greedily, and write to FOLDER what they heard and chose, the seconds of each frame, and what memory it took.
"""

import json
import sys
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FRAME = 1920
WARM_UP = 10
ROWS_BEFORE = 4
"""More rows of logits than the original computes before the one that chooses the first token that comes out."""


class Run(NamedTuple):
    """What a program did.

    ``codes`` int64 ``[codebooks, frames]`` of the user; ``tokens`` int64 ``[1 + streams, columns]``, text and the
    agent's codes; ``margins`` float32 ``[columns]``, by how much the likeliest text was ahead (empty if unknown);
    ``seconds`` of each frame, without the first ones; ``facts``: versions, device, dtype, seconds and bytes.
    """

    codes: NDArray[np.int64]
    tokens: NDArray[np.int64]
    margins: NDArray[np.float32]
    seconds: NDArray[np.float64]
    facts: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Write it."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "run.npz", codes=self.codes, tokens=self.tokens, margins=self.margins, seconds=self.seconds)
        (folder / "facts.json").write_text(json.dumps(self.facts, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """Read it."""
        with np.load(folder / "run.npz") as file:
            arrays = {name: file[name] for name in ("codes", "tokens", "margins", "seconds")}
        return cls(**arrays, facts=json.loads((folder / "facts.json").read_text()))


def run_original(given: dict[str, Any], frames: NDArray[np.float32]) -> Run:
    """Run the published package as its own commands do: frame by frame, greedily."""
    began = time.perf_counter()
    torch: Any = import_module("torch")
    loaders: Any = import_module("moshi.models.loaders")
    torch.set_grad_enabled(mode=False)
    device = given["device"] or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = given["dtype"] or ("float32" if device == "cpu" else "bfloat16")
    imported = time.perf_counter()
    info = loaders.CheckpointInfo.from_hf_repo(**given["files"])
    mimi = info.get_mimi(device=device)
    lm = info.get_moshi(
        device=device, dtype=getattr(torch, dtype), **({"fuse_lora": True} if info.lora_weights else {})
    )
    logits: list[Any] = []
    generator = import_module("moshi.models").LMGen(
        lm, use_sampling=False, on_text_logits_hook=lambda row: logits.append(row.float().flatten())
    )
    mimi.streaming_forever(1)
    generator.streaming_forever(1)
    loaded = time.perf_counter()
    codes: list[Any] = []
    steps: list[Any] = []
    seconds: list[float] = []
    for index, frame in enumerate(frames):
        start = time.perf_counter()
        codes.append(mimi.encode(torch.from_numpy(frame)[None, None].to(device)))
        if index == 0:
            generator.step(codes[0])  # the initial step: the frame itself is heard with the next
        tokens = generator.step(codes[-1])
        if tokens is not None:
            steps.append(tokens[0])
            mimi.decode(tokens[:, 1:]).cpu()
        seconds.append(time.perf_counter() - start)
    chosen = torch.cat(steps, dim=1).cpu().numpy()
    return Run(
        codes=torch.cat(codes, dim=2)[0].cpu().numpy(),
        tokens=chosen,
        margins=margins_of(torch, logits, chosen[0]),
        seconds=np.array(seconds[WARM_UP:]),
        facts={
            "version": f"moshi {version('moshi')}",
            "torch": torch.__version__,
            "device": device,
            "dtype": dtype,
            "import": imported - began,
            "load": loaded - imported,
            "first": seconds[0],
            **memory(torch, device),
        },
    )


def margins_of(torch: Any, logits: list[Any], text: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return by how much the likeliest text of each column was ahead of its next."""
    best = torch.stack(logits).topk(2, dim=1)
    rows, ahead = best.indices[:, 0].cpu().numpy(), (best.values[:, 0] - best.values[:, 1]).cpu().numpy()
    for before in range(ROWS_BEFORE):
        if np.array_equal(rows[before : before + len(text)], text):
            return ahead[before : before + len(text)]
    return np.full(len(text), np.nan, np.float32)


def run_duplex(given: dict[str, Any], frames: NDArray[np.float32]) -> Run:
    """Run this package."""
    began = time.perf_counter()
    duplex: Any = import_module("duplex")
    choice = {**given["choice"], "device": given["device"] or "auto", "dtype": given["dtype"] or "auto"}
    torch: Any = import_module("torch") if choice["backend"] == "torch" else None
    imported = time.perf_counter()
    with duplex.load(**choice) as model:
        loaded = time.perf_counter()
        frame_model, spec = model.frame_model, model.spec
        frame_model.open(0, duplex.SessionOptions(greedy=True, seed=0).with_defaults(model.defaults))
        tokens: list[Any] = []
        seconds: list[float] = []
        for frame in (*frames, *np.zeros((spec.latency_frames, FRAME), np.float32)):
            start = time.perf_counter()
            step = frame_model.step(frame[None], np.ones(1, np.bool_))
            seconds.append(time.perf_counter() - start)
            if step.valid[0]:
                tokens.append(np.concatenate([step.text[:1], step.agent[0]]))
        stream = model.codec.stream()
        codes = np.concatenate([stream.encode(frame) for frame in frames], axis=1)
        facts = {
            "version": f"duplex {version('duplex-speech')}",
            "torch": None if torch is None else torch.__version__,
            "device": model.device,
            "dtype": model.dtype if choice["quantize"] is None else f"{model.dtype} ({choice['quantize']})",
            "import": imported - began,
            "load": loaded - imported,
            "first": seconds[0],
            **memory(torch, model.device),
        }
    return Run(
        codes=codes,
        tokens=np.stack(tokens, axis=1),
        margins=np.zeros(0, np.float32),
        seconds=np.array(seconds[WARM_UP:]),
        facts=facts,
    )


def memory(torch: Any, device: str) -> dict[str, int]:
    """Return the peaks of this process and of its GPU, in bytes."""
    try:
        resource: Any = import_module("resource")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    except ModuleNotFoundError:  # on Windows
        peak = 0
    on_gpu = torch is not None and device.startswith("cuda")
    return {"peak": peak, "gpu": torch.cuda.max_memory_reserved() if on_gpu else 0}


def main() -> None:
    """Run and write."""
    which, asked, target = sys.argv[1:]
    given = json.loads(Path(asked).read_text())
    frames = np.load(given["sound"]).reshape(-1, FRAME)
    run = {"original": run_original, "duplex": run_duplex}[which]
    run(given, frames).write(Path(target))


if __name__ == "__main__":
    main()
