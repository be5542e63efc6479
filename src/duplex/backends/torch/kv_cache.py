"""The key/value cache of the layers of a transformer, read and written in place, runs of slots at a time.

The two functions below are also parts of a recorded step (:mod:`duplex.backends.torch.tracing`), in which they are
TorchScript: which slots there are, and how far back they go, are tensors that are read when the step runs.
"""

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from duplex.backends.torch import torchscript

__all__ = ["KeyValueCache", "visible"]


@attrs.frozen(eq=False)
class KeyValueCache:
    """A transformer's ring: each layer's keys and values, and their scales where they are int8."""

    cache: list[Tensor]
    scale: list[Tensor] | None

    def attend(self, layer: int, query: Tensor, new: Tensor, index: Tensor, mask: Tensor, runs: Tensor) -> Tensor:
        """Remember ``new`` keys and values, and return what the queries see, ``[batch, heads, positions, head_dim]``.

        ``query`` is of that shape, ``new`` ``[batch, 2, shared, positions, head_dim]``, ``index`` int64
        ``[batch, positions]`` the places of the new ones, ``mask`` bool ``[batch, 1, positions, length]`` what is
        seen of the first ``length`` places; ``runs`` int64 ``[runs, 2]`` the slots that the batch is. Each of the
        ``shared`` heads serves as many consecutive heads of queries.
        """
        scale = None if self.scale is None else self.scale[layer]
        return torchscript.as_traced(_attend)(query, new, index, mask, self.cache[layer], scale, runs)


def visible(query: Tensor, filled: Tensor, capacity: int, per_frame: int, context: int) -> Tensor:
    """Return what the positions ``query`` int64 ``[batch, positions]`` see of a ring: bool ``[batch, positions, n]``.

    ``filled`` is the most frames that any row has had, those of the query included: nobody looks beyond them.
    """
    return torchscript.as_traced(_visible)(query, filled, capacity, per_frame, context)


def _visible(query: Tensor, filled: Tensor, capacity: int, per_frame: int, context: int) -> Tensor:
    length = min(capacity, int(filled) * per_frame)
    last = query[:, -1:]
    seen = (last - (last - torch.arange(length, device=query.device)) % capacity)[:, None]
    query = query[:, :, None]
    frame_end = (torch.div(query, per_frame, rounding_mode="floor") + 1) * per_frame - 1
    return (seen >= 0) & (seen <= query) & (seen > frame_end - context)


def _attend(
    query: Tensor, new: Tensor, index: Tensor, mask: Tensor, cache: Tensor, scale: Tensor | None, runs: Tensor
) -> Tensor:
    seen: list[Tensor] = []
    length = mask.shape[-1]
    new = new.permute(0, 3, 1, 2, 4)  # what is written goes to places of rows, whatever the number of heads
    first = 0
    shape, grouped = query.shape, query.shape[1] // new.shape[3]
    if grouped > 1:  # the queries that share a key are as many positions more of one head
        query = query.reshape(shape[0], new.shape[3], grouped * shape[2], shape[3])
        mask = mask if shape[2] == 1 else mask.repeat(1, 1, grouped, 1)
    for run in range(runs.shape[0]):
        start, stop = int(runs[run, 0]), int(runs[run, 1])
        last = first + stop - start
        rows = torch.arange(stop - start, device=index.device)[:, None]
        place, fresh = index[first:last], new[first:last]
        held = cache[start:stop]
        if scale is not None:
            size = fresh.float().abs().amax(dim=-1, keepdim=True).clamp(min=1e-8) / 127
            sizes = scale[start:stop]
            sizes.permute(0, 3, 1, 2, 4).index_put_([rows, place], size)
            fresh = (fresh.float() / size).round().to(torch.int8)
            held.permute(0, 3, 1, 2, 4).index_put_([rows, place], fresh)
            past = (held[:, :, :, :length].float() * sizes[:, :, :, :length]).to(query.dtype)
        else:
            held.permute(0, 3, 1, 2, 4).index_put_([rows, place], fresh)
            past = held[:, :, :, :length]
        keys, values = past[:, 0], past[:, 1]
        seen.append(functional.scaled_dot_product_attention(query[first:last], keys, values, mask[first:last]))
        first = last
    found = seen[0] if len(seen) == 1 else torch.cat(seen)
    return found if grouped == 1 else found.reshape(shape)
