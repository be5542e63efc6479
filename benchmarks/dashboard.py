"""Draw deploy/grafana/duplex.json from a real load: `duplex serve`, Prometheus that scrapes it, and a crowd of callers.

    python benchmarks/dashboard.py [--model tiny] [--sessions 8] [--callers 2 6 12] [--seconds 60] [--out FILE.png]

The callers of each phase call together; those above the sessions wait, or are sent away. Each panel is what Prometheus
answers to the panel's own queries. Needs the command `prometheus` (Debian's package of that name).
"""

import argparse
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import anyio
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from server_crowd import crowd

ROOT = Path(__file__).parents[1]
DASHBOARD = ROOT / "deploy" / "grafana" / "duplex.json"
QUEUE = 2
STEP = 2
"""Seconds between two points, and two scrapes."""
COLUMNS = 24


def parse() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--callers", type=int, nargs="+", default=[2, 6, 12])
    parser.add_argument("--seconds", type=float, default=60.0, help="of each phase")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "dashboard.png")
    return parser.parse_args()


@contextlib.contextmanager
def server(arguments: argparse.Namespace, folder: Path) -> Iterator[int]:
    """Run `duplex serve`; give its port."""
    options = ["--sessions", arguments.sessions, "--queue", QUEUE, "--record", folder / "calls", "--queue-timeout", 30]
    command = [sys.executable, "-m", "duplex", "serve", "--port", "0", "--model", arguments.model, *map(str, options)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        while not (found := re.search(r"http://\S+:(\d+)", process.stderr.readline() if process.stderr else "")):
            pass
        yield int(found[1])
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def prometheus(port: int, folder: Path) -> Iterator[str]:
    """Run Prometheus on the alerts of deploy/ and a server; give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    job = {"job_name": "duplex", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    interval = {"scrape_interval": f"{STEP}s", "evaluation_interval": f"{STEP}s"}
    rules = [str(ROOT / "deploy" / "prometheus" / "alerts.yaml")]
    (folder / "prometheus.yaml").write_text(
        json.dumps({"global": interval, "rule_files": rules, "scrape_configs": [job]})
    )
    command = ["prometheus", f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data"]
    process = subprocess.Popen([*command, f"--web.listen-address={address}", "--log.level=error"])
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()


def ask(address: str, path: str, **query: object) -> Any:
    """Return what Prometheus answers."""
    with urlopen(f"{address}/api/v1/{path}?{urlencode(query)}", timeout=30) as answer:  # noqa: S310 -- of this machine
        return json.load(answer)["data"]


def label(template: str, labels: dict[str, str]) -> str:
    """Return a line's name, as Grafana makes it."""
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), template)


def draw_panel(axes: Axes, panel: dict[str, Any], address: str, span: tuple[float, float]) -> int:
    """Draw a panel; return how many lines it has."""
    count = 0
    for target in panel["targets"]:
        answer = ask(address, "query_range", query=target["expr"], start=span[0], end=span[1], step=STEP)
        for line in answer["result"]:
            points = [(float(at) - span[0], float(value)) for at, value in line["values"]]
            axes.plot(*zip(*points, strict=True), label=label(target["legendFormat"], line["metric"]), linewidth=1.2)
            count += 1
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, unit)))
    axes.set(title=panel["title"], xlim=(0, span[1] - span[0]))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if count:
        axes.legend(fontsize=7, loc="upper left")
    else:
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", color="gray")
    return count


def shown(value: float, unit: str) -> str:
    """Return a value with its unit."""
    if unit == "bytes":
        return f"{value / 2**20:.0f} MiB"
    if unit == "s":
        return f"{1000 * value:.0f} ms" if value < 1 else f"{value:g} s"
    return f"{value:g}"


def draw(address: str, span: tuple[float, float], out: Path) -> None:
    """Draw the dashboard as it is laid out."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = Figure(figsize=(15, 0.42 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, COLUMNS)
    for panel in panels:
        place = panel["gridPos"]
        cell = grid[place["y"] : place["y"] + place["h"], place["x"] : place["x"] + place["w"]]
        lines = draw_panel(figure.add_subplot(cell), panel, address, span)
        print(f"{panel['title']:40} {lines} lines")
    figure.savefig(out, dpi=80)


def main() -> None:
    """Serve, call, scrape and draw."""
    arguments = parse()
    mpl.rcParams.update({"font.size": 8, "axes.titlesize": 9, "axes.titleweight": "bold"})
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(server(arguments, folder))
        address = stack.enter_context(prometheus(port, folder))
        time.sleep(10)
        began = time.time()
        for callers in arguments.callers:
            figures = anyio.run(crowd, "127.0.0.1", port, callers, arguments.seconds)
            print(callers, "callers", figures, "load", os.getloadavg()[0])
        time.sleep(3 * STEP)
        draw(address, (began, time.time()), arguments.out)
        for alert in ask(address, "alerts")["alerts"]:
            print("alert:", alert["state"], alert["labels"]["alertname"], alert["annotations"]["summary"])


if __name__ == "__main__":
    main()
