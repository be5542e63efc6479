"""The metrics of all replicas as one text, each sample with the name of its replica."""

import logging
import ssl
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from duplex.cluster.serving.placing import Report
from duplex.server.listening import Listening

__all__ = ["fetch_metrics", "merge_metrics", "trust_of"]

log: logging.Logger = logging.getLogger(__name__)

FETCH_SECONDS = 2.0
MOST_BYTES = 1 << 22
REPLICA = "replica"


def trust_of(listening: Listening) -> ssl.SSLContext | None:
    """Return what tells replicas by: the certificate that all of them were given, whatever name it is for."""
    if listening.certificate is None:
        return None
    context = ssl.create_default_context(cafile=str(listening.certificate))
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


async def fetch_metrics(reports: Sequence[Report], trust: ssl.SSLContext | None) -> Mapping[str, str]:
    """Return the metrics of replicas by their names, in Prometheus' text, of those that answer."""
    found: dict[str, str] = {}

    async def fetch(report: Report) -> None:
        with anyio.move_on_after(2 * FETCH_SECONDS):
            text = await anyio.to_thread.run_sync(partial(_fetch, report.url, trust), abandon_on_cancel=True)
            if text is not None:
                found[report.name] = text

    async with anyio.create_task_group() as tasks:
        for each in reports:
            tasks.start_soon(fetch, each)
    return found


def merge_metrics(texts: Mapping[str, str]) -> bytes:
    """Return metrics of several replicas as one text, in which each sample says of which it is."""
    registry = CollectorRegistry()
    registry.register(_Gathered(texts))
    return generate_latest(registry)


class _Gathered(Collector):
    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def collect(self) -> Iterable[Metric]:
        """Return the families of all, each once."""
        families: dict[str, Metric] = {}
        for replica, text in self._texts.items():
            for family in text_string_to_metric_families(text):
                gathered = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    gathered.add_sample(sample.name, {**sample.labels, REPLICA: replica}, sample.value)
        return families.values()


def _fetch(url: str, trust: ssl.SSLContext | None) -> str | None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust))
    try:
        with opener.open(f"{url}/metrics", timeout=FETCH_SECONDS) as answer:
            text: Any = answer.read(MOST_BYTES)
            return text.decode()
    except (OSError, ValueError) as error:
        log.debug("a replica does not tell its metrics: %s", error)
        return None
