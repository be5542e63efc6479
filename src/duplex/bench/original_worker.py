"""Times frames of the original `moshi` package, in the environment in which that is installed.

    PYTHON original_worker.py '{"weights": ..., "mimi_weights": ..., "mimi_config": ..., "lm_config": ..., ...}'

It prints the seconds of each frame's stages as JSON, run as a user of that package would.
"""

import json
import sys
import time
from importlib import import_module
from importlib.metadata import version
from typing import Any

WARM_UP = 5


def main() -> None:
    """Measure and print."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    torch: Any = import_module("torch")
    torch.set_grad_enabled(mode=False)
    loaders: Any = import_module("moshi.models.loaders")
    mimi = loaders.get_mimi(
        given["mimi_weights"], given["mimi_config"], device=given["device"], num_codebooks=given["codebooks"]
    )
    times: dict[str, list[float]] = {"encode": [], "step": [], "decode": []}
    generator: Any = None
    if given["weights"]:
        dtype = getattr(torch, given["dtype"])
        lm = loaders.get_moshi_lm(given["weights"], given["lm_config"], device=given["device"], dtype=dtype)
        generator = import_module("moshi.models").LMGen(lm, **given["sampling"])
        generator.streaming_forever(1)
    mimi.streaming_forever(1)
    seeded = torch.Generator().manual_seed(0)
    size = given["frame_size"]
    pcm = (0.1 * torch.randn(1, 1, size * (given["frames"] + WARM_UP), generator=seeded)).to(given["device"])
    for start in range(0, pcm.shape[-1], size):
        moments = [time.perf_counter()]
        codes = mimi.encode(pcm[..., start : start + size])
        _wait(torch, given["device"], moments)
        tokens: Any = generator.step(codes) if generator else None
        _wait(torch, given["device"], moments)
        if generator is None or tokens is not None:
            spoken: Any = codes if generator is None else tokens[:, 1:]
            mimi.decode(spoken).cpu()
        _wait(torch, given["device"], moments)
        for name, begun, ended in zip(times, moments, moments[1:], strict=False):
            times[name].append(ended - begun)
    found = {name: seconds[WARM_UP:] for name, seconds in times.items()}
    sys.stdout.write(json.dumps({"version": version("moshi"), "torch": torch.__version__, "seconds": found}))


def _wait(torch: Any, device: str, moments: list[float]) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    moments.append(time.perf_counter())


if __name__ == "__main__":
    main()
