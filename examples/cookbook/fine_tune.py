"""Fine-tuning on ten stereo files: an adapter of your recordings for a model, and its answer before and after.

python examples/cookbook/fine_tune.py TALKS OUT --question QUESTION.wav --model kyutai/moshika-pytorch-bf16

TALKS has recordings, the user left, the agent right, each beside a .json of the same name with the agent's words and
their times. The model itself stays as it is. What is done is not done again. Further options go to `duplex train lm`.
"""

import argparse
import csv
import shlex
import subprocess
import sys
from pathlib import Path

import anyio

import duplex


def run(*arguments: str) -> None:
    """Run a command of `duplex`; what it says about its progress is not of interest here."""
    print("$ duplex", shlex.join(arguments), flush=True)
    done = subprocess.run([sys.executable, "-m", "duplex", *arguments], check=False, stderr=subprocess.PIPE, text=True)  # noqa: S603 -- this package's own command
    if done.returncode:
        sys.exit(done.stderr)


async def answer(model: str, question: str, adapter: Path | None = None) -> str:
    """Return what the model says to a recording."""
    with await duplex.load_async(model, adapter=adapter) as loaded:
        async with duplex.Conversation(loaded, duplex.FileTransport(question)) as conversation:
            words = [event.text async for event in conversation if isinstance(event, duplex.AgentText)]
    return "".join(words).strip()


def main(arguments: argparse.Namespace) -> None:
    """Train it, and ask it."""
    talks, out, model = arguments.talks, arguments.out, arguments.model
    print(f"{len(list(talks.glob('*.wav')))} recordings")
    data, trained = str(out / "dialogues"), out / "run"
    run("train", "dialogues", "--recordings", str(talks), "--out", data, "--codec", model, "--tokenizer", model)
    chosen = ("--lora", str(arguments.rank), "--steps", str(arguments.steps), *arguments.more)
    run("train", "lm", "--start-from", model, "--data", data, "--out", str(trained), *chosen)
    with (trained / "losses.csv").open(encoding="utf-8") as file:
        losses = [row["validation_total"] for row in csv.DictReader(file) if row["validation_total"]]
    print(f"loss on a dialogue that was kept apart: {float(losses[-1]):.3f}")
    adapter = trained / "adapter"
    size = sum(path.stat().st_size for path in adapter.iterdir())
    print(f"the adapter has {size / 1e6:.1f} MB")
    print(f"before: {anyio.run(answer, model, arguments.question)}")
    print(f"after:  {anyio.run(answer, model, arguments.question, adapter)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("talks", type=Path, help="a folder of recordings")
    parser.add_argument("out", type=Path, help="a folder for what is made")
    parser.add_argument("--question", required=True, help="a recording to ask it with")
    parser.add_argument("--model", default="kyutai/moshika-pytorch-bf16")
    parser.add_argument("--rank", type=int, default=128)
    parser.add_argument("--steps", type=int, default=2000)
    known, rest = parser.parse_known_args()
    main(argparse.Namespace(**vars(known), more=rest))
