"""The choice of layouts for a model that is being loaded: from a pin, from the cache, by timing, or from the table."""

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import attrs
import torch

from duplex.backends.torch.cores import cores
from duplex.backends.torch.products.cache import TimingCache
from duplex.backends.torch.products.choice import Choice, Layout, Product, choose, row_counts
from duplex.backends.torch.products.layouts import MIDDLING, fixed, layouts_of
from duplex.backends.torch.products.timing import clock, time_product
from duplex.errors import UsageError
from duplex.parsing import shown

__all__ = ["VARIABLE", "ProductSelector", "pins"]

logger: logging.Logger = logging.getLogger(__name__)
VARIABLE = "DUPLEX_PRODUCTS"
FIXED, TIMED = "fixed", "timed"
SECONDS = 0.8
"""What timing may take while a model is loaded, in all."""
LEAST_SHARE = 0.02
"""Of what a module's weights come to; a shape of less is not worth the time."""


@attrs.define
class ProductSelector:
    """Chooses for up to so many ``sessions``; ``one_core`` says that a step is computed on one core."""

    sessions: int = 1
    timed: bool = True
    """Whether anything may be timed; else the table holds, whatever the cache knows."""
    one_core: bool = False
    pinned: Mapping[str, Layout] = attrs.field(factory=dict[str, Layout])
    chosen: dict[str, Choice] = attrs.field(factory=dict[str, Choice])
    """What has been chosen, by the product's name."""
    left: float = SECONDS

    @classmethod
    def of(cls, *, sessions: int, deterministic: bool) -> "ProductSelector":
        """Return the one for a model, as the environment has it: see :func:`pins`.

        :raises UsageError: if the environment's pin cannot be used
        """
        told = os.environ.get(VARIABLE) or TIMED
        if deterministic or told == FIXED:
            return cls(sessions, timed=False)
        return cls(sessions) if told == TIMED else cls(sessions, timed=False, pinned=pins(told))

    def choose(self, wanted: Sequence[Product]) -> dict[Product, Layout]:
        """Return the layout of each product, all of one module, which come as often as they are there."""
        with cores(1 if self.one_core else None):
            cache = TimingCache.read(torch.get_num_threads()) if self.timed and wanted else None
            counts = Counter(product for product in wanted if product.outputs * product.inputs >= MIDDLING)
            sizes = {product: product.outputs * product.inputs * count for product, count in counts.items()}
            worth = [each for each in counts if sizes[each] >= LEAST_SHARE * sum(sizes.values())]
            if cache is not None:
                self._time(cache, sorted(worth, key=sizes.__getitem__, reverse=True))
            for product in counts:
                known = cache if product in worth else None
                self.chosen[str(product)] = self._choice(product, known)
        return {product: self.chosen[str(product)].layout if product in counts else "rows" for product in wanted}

    def layouts(self) -> dict[str, str]:
        """Return what has been chosen, as a pin can have it."""
        return {name: choice.layout for name, choice in sorted(self.chosen.items())}

    def _time(self, cache: TimingCache, products: Sequence[Product]) -> None:
        """Time what is not known, the largest first: what there is no time for is left to the next start."""
        wanted = [(each, rows) for each in products if (rows := self._unknown(cache, each))]
        for product, rows in wanted:
            began = clock()
            found = time_product(product, rows, self.left) if self.left > 0 else None
            self.left -= clock() - began
            if found is None:
                logger.debug("%s was not timed: no time was left, or the machine does much else", product)
            else:
                cache.put(product, found)
        if wanted:
            cache.write()

    def _unknown(self, cache: TimingCache, product: Product) -> list[int]:
        """Return the numbers of rows that a product is not known for."""
        layouts, counts = layouts_of(product.kind), row_counts(product.rows, self.sessions)
        return [rows for rows in counts if cache.timings(product, [rows], layouts) is None]

    def _choice(self, product: Product, cache: TimingCache | None) -> Choice:
        usual = fixed(product.kind, product.outputs, product.inputs)
        layouts = layouts_of(product.kind)
        pinned = self.pinned.get(str(product))
        if pinned is not None and pinned in layouts:
            return Choice(pinned, "pinned")
        rows = row_counts(product.rows, self.sessions)
        timings = None if cache is None else cache.timings(product, rows, layouts)
        return Choice(usual, "fixed") if timings is None else Choice(choose(timings, usual), "timed")


def pins(told: str) -> dict[str, Layout]:
    """Return the layouts that a JSON file names, as ``run.json`` does under ``"products"``.

    :raises UsageError: if it cannot be read, or names a layout that there is not
    """
    advice = f"set {VARIABLE} to 'timed', 'fixed', or a run.json that was written here"
    try:
        whole: Any = json.loads(Path(told).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise UsageError(f"{VARIABLE}={shown(told)} is no file of JSON; {advice}") from None
    named: Any = cast("dict[str, Any]", whole).get("products") if isinstance(whole, dict) else None
    if not isinstance(named, dict):
        raise UsageError(f"{VARIABLE}={shown(told)} names no products; {advice}")
    found = cast("dict[str, Any]", named)
    unknown = [name for name, layout in found.items() if layout not in get_args(Layout)]
    if unknown:
        raise UsageError(f"{VARIABLE}={shown(told)}: {shown(unknown[0])} has no layout that is known; {advice}")
    return found
