"""Time the products of a CPU in every layout a weight can have, beside what would be chosen, and check the choice.

    python benchmarks/cpu_products.py [--shape OUTxIN …] [--kind float32|bfloat16|int8|int4 …] [--rows N …]
        [--threads N] [--again 3]

Prints microseconds and gigabytes of weights a second, over different matrices one after another. With `--again`, as
many fresh processes time what this one has chosen: how much slower is it than the best of theirs? Products in 4 bits
have one layout; beside them stands how long reading as many bytes takes.
`ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2` lets a processor stand in for others.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import torch
from rich.console import Console
from rich.table import Table

from duplex.backends.shared.processor import processor
from duplex.backends.torch.int4 import PackedInt4
from duplex.backends.torch.products.choice import Product, choose
from duplex.backends.torch.products.layouts import fixed
from duplex.backends.torch.products.timing import clock, time_product
from duplex.backends.torch.quantize import Quantized

SHAPES = ["1536x512", "512x512", "2048x512", "512x2048", "3072x1024", "5632x1024", "1024x2816"]
BITS = {"float32": 32, "bfloat16": 16, "int8": 8, "int4": 5}
"""Of a number; in 4 bits each 32 share a scale and a zero."""
NO_CACHE = 1 << 30
"""Numbers of 4 bits that no cache holds together."""
TURNS, ATTEMPTS = 15, 4


def measured(kind: str, outputs: int, inputs: int, rows: int) -> dict[str, float]:
    """Return seconds by layout; those of the attempt on which passes agreed, or none."""
    if kind == "int4":
        return time_int4(outputs, inputs, rows)
    for _ in range(ATTEMPTS):
        found = time_product(Product(kind, outputs, inputs, rows), [rows], 60.0)
        if found is not None:
            return {str(layout): seconds for layout, seconds in found[rows].items()}
    return {}


@torch.inference_mode()
def time_int4(outputs: int, inputs: int, rows: int) -> dict[str, float]:
    """Return the median seconds of a product in 4 bits, and of reading as many bytes, by turns."""
    given = torch.full((rows, inputs), 0.5, dtype=torch.bfloat16)
    packed = PackedInt4.of(Quantized.of(torch.randn(outputs, inputs), "int4"))
    count = max(3, NO_CACHE // (outputs * inputs))
    copies = [PackedInt4(packed.data.clone(), packed.scale.clone()) for _ in range(count)]
    as_many = torch.ones(sum(each.data.nbytes + each.scale.nbytes for each in copies) // 4)
    took: dict[str, list[float]] = {"packed": [], "reading": []}
    for _ in range(TURNS):
        began = clock()
        for each in copies:
            each.multiply(given)
        between = clock()
        as_many.sum()
        took["packed"].append((between - began) / count)
        took["reading"].append((clock() - between) / count)
    return {name: statistics.median(times) for name, times in took.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", nargs="+", default=SHAPES)
    parser.add_argument("--kind", nargs="+", choices=BITS, default=["float32", "bfloat16", "int8", "int4"])
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--again", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="what is measured, alone")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    names = [
        f"{kind} {shape} {rows}" for kind in arguments.kind for shape in arguments.shape for rows in arguments.rows
    ]
    times = {name: measured(*parsed(name)) for name in names}
    if arguments.json:
        print(json.dumps(times))
        return
    command = [sys.executable, __file__, *sys.argv[1:], "--json"]
    fresh = [json.loads(subprocess.check_output(command).splitlines()[-1]) for _ in range(arguments.again)]
    report(times, fresh, arguments.threads)


def parsed(name: str) -> tuple[str, int, int, int]:
    """Return kind, outputs, inputs and rows."""
    kind, shape, rows = name.split()
    outputs, inputs = map(int, shape.split("x"))
    return kind, outputs, inputs, int(rows)


def report(times: dict[str, dict[str, float]], fresh: list[dict[str, dict[str, float]]], threads: int) -> None:
    """Print the table."""
    console = Console(width=150)
    capability = torch.backends.cpu.get_cpu_capability()
    console.print(f"{processor()}, {capability}, {threads} threads, torch {torch.__version__}, {time.strftime('%F')}")
    table = Table(
        "product", "rows", "layouts: microseconds (GB/s)", "chosen", *(["slower than the best"] if fresh else [])
    )
    for name, found in times.items():
        kind, outputs, inputs, rows = parsed(name)
        size = outputs * inputs * BITS[kind] / 8
        order = sorted(found.items(), key=lambda item: item[1])
        shown = "  ".join(f"{layout} {took * 1e6:.0f} ({size / took / 1e9:.1f})" for layout, took in order)
        chosen = "packed" if kind == "int4" else "none: busy"
        if found and kind != "int4":
            chosen = choose({rows: found}, fixed(kind, outputs, inputs))
        again = [process[name] for process in fresh if kind != "int4" and chosen in process[name]]
        worse = [f"{each[chosen] / min(each.values()) - 1:.0%}" for each in again]
        table.add_row(f"{kind} {outputs}x{inputs}", str(rows), shown, chosen, *([" ".join(worse)] if fresh else []))
    console.print(table)


if __name__ == "__main__":
    main()
