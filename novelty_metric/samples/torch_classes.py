"""Classes that a ``.pt`` file may name and that do no harm, by name.

``torch.load(weights_only=True)`` makes tensors and plain values. Some models keep beside their
arrays what the reader has no use for: the arguments of their command line, or the crystals they
were given as a PyTorch Geometric batch. Those classes are allowed here; of PyTorch Geometric
nothing is imported or run: every name of it gets a stand-in that holds what it is given.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Callable
from typing import Any


class StandIn:
    """An object that holds what the file says about it, and does nothing."""

    def __new__(cls, *arguments: Any, **options: Any) -> StandIn:
        """Take any arguments, and make nothing of them."""
        return object.__new__(cls)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


def make_stand_in(*arguments: Any) -> StandIn:
    """What a batch is made by: PyTorch Geometric builds its class at load."""
    return StandIn()


class _Getter:
    """In place of the object that PyTorch Geometric makes batches with."""

    def __new__(cls) -> Any:
        # The loader calls only what it was given by name, which an instance is not.
        return make_stand_in


_GEOMETRIC = "torch_geometric.data"
_STAND_INS = (
    "batch.Batch",
    "batch.DataBatch",
    "data.Data",
    "data.DataEdgeAttr",
    "data.DataTensorAttr",
    "hetero_data.HeteroData",
    "storage.BaseStorage",
    "storage.EdgeStorage",
    "storage.GlobalStorage",
    "storage.NodeStorage",
)


def allowed_classes() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What `torch.serialization.safe_globals` is given."""
    import numpy as np

    allowed: list[Any] = [argparse.Namespace, collections.defaultdict, dict, list]
    allowed += [(StandIn, f"{_GEOMETRIC}.{name}") for name in _STAND_INS]
    allowed += [
        (make_stand_in, "novelty_metric.samples.torch_classes.make_stand_in"),
        (_Getter, f"{_GEOMETRIC}.batch.DynamicInheritanceGetter"),
    ]
    # Arrays of NumPy hold numbers; an array of objects is made of what else is allowed.
    reconstruct, scalar = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]
    for home in ("numpy._core", "numpy.core"):  # its name from version 2 on, and before
        allowed.append((reconstruct, f"{home}.multiarray._reconstruct"))
        allowed.append((scalar, f"{home}.multiarray.scalar"))
    allowed += [np.ndarray, np.dtype, *{type(np.dtype(code)) for code in "?bhilqBHILQefdg"}]
    return allowed
