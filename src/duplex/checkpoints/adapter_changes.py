"""What an adapter changes of a model, told from the headers of its file and of the model's weights.

A LoRA of ``MODULE`` is two tensors, ``MODULE.lora_A.weight`` ``[rank, in]`` and ``MODULE.lora_B.weight``
``[out, rank]``: the weight becomes W + scaling (B A). As with the weights themselves, the projections of a transformer
whose steps have weights of their own are published one by one (``in_projs.N``) or stacked in the rows of A and of B
(``in_proj``). Any other name is that of a tensor of the model, which replaces it, as fine-tuned embeddings do.

Everything is checked here, before a tensor is read: what is left to a backend is to read, multiply and add.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

import attrs
import numpy as np
from numpy.typing import NDArray

from duplex.checkpoints.gguf_file import is_rounded
from duplex.checkpoints.language_model_config import LanguageModelConfig
from duplex.checkpoints.rust_names import published_name
from duplex.checkpoints.transformers_names import is_of_transformers
from duplex.checkpoints.transformers_section import AS_PUBLISHED
from duplex.checkpoints.weight_names import UNSPLIT, canonical_name, detect_layout, mlx_tensor_blocks
from duplex.checkpoints.weights_file import Header, TensorInfo
from duplex.errors import WeightsError

__all__ = ["Change", "Product", "Rows", "changes_of", "shapes_of"]

_LORA = re.compile(r"^(.+)\.lora_([AB])\.weight$")
_EMBEDDING = re.compile(r"(^|[._])emb(\.\d+)?\.weight$|\.embed\.weight$")
_FLOATING = frozenset({"F32", "F16", "BF16"})
_QUANTIZED = re.compile(r"(_scb|\.scales)$")
_MATRIX = 2
"""Dimensions."""
_AGAIN = "the file is incomplete; save or download it again"


@attrs.frozen
class Rows:
    """The rows from ``start`` up to ``stop`` of a tensor."""

    start: int
    stop: int


@attrs.frozen
class Product:
    """A product of low rank, added to some rows of a weight: those of B and A that it is made of, by name."""

    rows: Rows
    up: str
    up_rows: Rows
    down: str
    down_rows: Rows

    @property
    def rank(self) -> int:
        """The inner dimension."""
        return self.down_rows.stop - self.down_rows.start

    def inside(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which of these rows of the weight it is added to, int64, by their places among them."""
        return np.flatnonzero((rows >= self.rows.start) & (rows < self.rows.stop))


@attrs.frozen
class Change:
    """What becomes of one tensor: replaced by ``parts``, joined, if there are any; then the products are added."""

    parts: tuple[str, ...] = ()
    products: tuple[Product, ...] = ()

    def rank(self, rows: NDArray[np.int64]) -> int:
        """Return the rank of what is added to these rows of the weight."""
        return sum(product.rank for product in self.products if len(product.inside(rows)))


def shapes_of(weights: Header, config: LanguageModelConfig, where: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model's tensors by their canonical names, from the header of weights of either layout.

    :raises WeightsError: if the weights are quantized, or lie otherwise than those that adapters are trained on
    """
    if is_of_transformers(weights):
        raise WeightsError(
            f"{where}: these weights are in the layout of Hugging Face transformers, whose rows lie otherwise than an "
            f"adapter's; {AS_PUBLISHED}, and the adapter with it"
        )
    if any(_QUANTIZED.search(name) or is_rounded(tensor) for name, tensor in weights.items()):
        raise WeightsError(
            f"{where}: these weights are quantized, and an adapter is added to whole ones; load the model that they "
            "were made of with the adapter, and quantize='int8' or 'int4' to have the sum quantized"
        )
    shapes: dict[str, tuple[int, ...]] = {}
    if detect_layout(weights) == "mlx":
        for name, block in mlx_tensor_blocks(config).items():
            rows = weights[name].shape[:1] if name in weights else ()
            for count in rows:
                alpha = block.name.endswith(".alpha")
                shapes[block.name] = (1, 1, count) if alpha else (count * block.of, *weights[name].shape[1:])
        return shapes
    for name, tensor in weights.items():
        canonical, _ = canonical_name(published_name(name) or name)
        for count in tensor.shape[:1] if published_name(name) else ():
            shapes[canonical] = (shapes.get(canonical, (0,))[0] + count, *tensor.shape[1:])
    return shapes


def changes_of(
    adapter: Header, shapes: Mapping[str, tuple[int, ...]], *, rank: int | None, where: str
) -> dict[str, Change]:
    """Return what an adapter changes of a model whose tensors have these ``shapes``, by their canonical names.

    ``rank`` is what the adapter's configuration says, ``None`` if it says nothing.

    :raises WeightsError: naming the tensor that does not belong to the model, or lacks its other half
    """
    if not adapter:
        raise WeightsError(f"{where}: there is no tensor in it; {_AGAIN}")
    pairs: dict[str, dict[str, str]] = defaultdict(dict)
    parts: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in sorted(adapter):
        if adapter[name].dtype not in _FLOATING:
            raise WeightsError(f"{where}: tensor '{name}' is {adapter[name].dtype}; an adapter's are floating numbers")
        found = _LORA.match(name)
        canonical, index = canonical_name(f"{found[1]}.weight" if found else name)
        _check_known(name, canonical, shapes, where, lora=found is not None)
        if found:
            pairs[found[1]][found[2]] = name
        else:
            parts[canonical].append((index, name))
    products = _products(adapter, pairs, shapes, rank, where)
    for canonical, named in parts.items():
        _check_replacement(adapter, canonical, sorted(named), shapes[canonical], where)
    changed = sorted({*parts, *products})
    return {
        name: Change(
            parts=tuple(part for _, part in sorted(parts.get(name, []))), products=tuple(products.get(name, ()))
        )
        for name in changed
    }


def _check_known(name: str, canonical: str, shapes: Mapping[str, tuple[int, ...]], where: str, *, lora: bool) -> None:
    adaptable = len(shapes.get(canonical, ())) == _MATRIX and not _EMBEDDING.search(canonical)
    if canonical not in shapes or (lora and not adaptable):
        raise WeightsError(
            f"{where} has the tensor '{name}', for which the model has no {'matrix' if lora else 'tensor'}; give the "
            "model that the adapter was trained on, or an adapter in the published layout (MODULE.lora_A.weight)"
        )


def _products(
    adapter: Header,
    pairs: Mapping[str, Mapping[str, str]],
    shapes: Mapping[str, tuple[int, ...]],
    rank: int | None,
    where: str,
) -> dict[str, list[Product]]:
    products: dict[str, list[Product]] = defaultdict(list)
    for module, halves in pairs.items():
        if len(halves) < len("AB"):
            (half, name), *_ = halves.items()
            raise WeightsError(
                f"{where} has '{name}', but lacks '{module}.lora_{'B' if half == 'A' else 'A'}.weight'; {_AGAIN}"
            )
        canonical, index = canonical_name(f"{module}.weight")
        added = list(_blocks(adapter, halves, index, shapes[canonical], rank, where))
        taken = {product.rows.start for product in products[canonical]}
        if taken & {product.rows.start for product in added}:
            raise WeightsError(f"{where} has the same adapter twice, one of them as '{halves['A']}'; save it again")
        products[canonical] += added
    return products


def _blocks(
    adapter: Header, halves: Mapping[str, str], index: int, shape: tuple[int, ...], rank: int | None, where: str
) -> Iterator[Product]:
    """Yield the products that a pair of tensors is: one, or with stacked projections one for each step."""
    down, up = halves["A"], halves["B"]
    a, b = adapter[down].shape, adapter[up].shape
    rows, columns = shape
    if len(a) != _MATRIX or len(b) != _MATRIX or not a[0] or not b[0] or not b[1]:
        raise _misfit(down, up, a, b, shape, where)
    own = b[1]
    if rank is not None and own != rank:
        raise WeightsError(
            f"{where}: '{up}' is of rank {own}, but its configuration has 'lora_rank' {rank}; the two do not belong "
            "together: save or download both again"
        )
    steps = a[0] // own
    size, first = (rows // max(steps, 1), 0) if index == UNSPLIT else (b[0], b[0] * index)
    stacked = index == UNSPLIT and steps * size == rows == b[0]
    single = index != UNSPLIT and steps == 1 and rows % size == 0 and first + size <= rows
    if a != (steps * own, columns) or not (stacked or single):
        raise _misfit(down, up, a, b, shape, where)
    for step in range(steps):
        start = first + step * size
        yield Product(
            rows=Rows(start, start + size),
            up=up,
            up_rows=Rows(step * size, (step + 1) * size),
            down=down,
            down_rows=Rows(step * own, (step + 1) * own),
        )


def _misfit(
    down: str, up: str, a: tuple[int, ...], b: tuple[int, ...], shape: tuple[int, ...], where: str
) -> WeightsError:
    return WeightsError(
        f"{where}: '{down}' is {list(a)} and '{up}' {list(b)}, which does not fit the model's {list(shape)}; give the "
        "model that the adapter was trained on"
    )


def _check_replacement(
    adapter: Header, canonical: str, parts: list[tuple[int, str]], shape: tuple[int, ...], where: str
) -> None:
    """Check that parts of a tensor, by index, make up a whole one."""
    tensors: list[TensorInfo] = [adapter[name] for _, name in parts]
    indices = [index for index, _ in parts]
    whole = indices == [UNSPLIT] or indices == list(range(len(parts)))
    rows = sum(tensor.shape[0] for tensor in tensors if tensor.shape)
    if not whole or rows != shape[0] or any(tensor.shape[1:] != shape[1:] for tensor in tensors):
        found = " and ".join(str(list(tensor.shape)) for tensor in tensors)
        raise WeightsError(
            f"{where}: '{canonical}' is {found}, but the model's is {list(shape)}; give the model that the adapter was "
            "trained on"
        )
