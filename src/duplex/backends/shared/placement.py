"""Where a model runs, with every ``"auto"`` resolved."""

import attrs

__all__ = ["Placement"]


@attrs.frozen(kw_only=True)
class Placement:
    """A backend, its device (``"cpu"``, ``"cuda:1"``, ``"gpu"``) and the dtype that it computes with."""

    backend: str
    device: str
    dtype: str
