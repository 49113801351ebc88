"""Harmless stand-ins for the classes that a ``.pt`` file may name.

``torch.load(weights_only=True)`` makes tensors and plain values. Some models keep beside their
arrays what the reader has no use for: the arguments of their command line, or the crystals they
were given as a PyTorch Geometric batch. Those classes are allowed here; of PyTorch Geometric
nothing is imported or run: every name of it gets a stand-in that holds what it is given. Arrays of
NumPy are made anew from their bytes: NumPy believes what a pickle says about a type, such as that
numbers are addresses of objects.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Callable
from functools import cache
from typing import Any


class StandIn:
    """An inert object that holds its description from the file."""

    def __new__(cls, *arguments: Any, **options: Any) -> StandIn:
        """Accept any arguments and ignore them."""
        return object.__new__(cls)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


def make_stand_in(*arguments: Any) -> StandIn:
    """Stand-in for the function that makes a batch: PyTorch Geometric builds its class at load
    time.
    """
    return StandIn()


class _Getter:
    """Stand-in for the object with which PyTorch Geometric makes batches."""

    def __new__(cls) -> Any:
        # The loader calls only what it was given by name, which an instance is not.
        return make_stand_in


_GEOMETRIC = {
    "batch": ("Batch", "DataBatch"),
    "data": ("Data", "DataEdgeAttr", "DataTensorAttr"),
    "hetero_data": ("HeteroData",),
    "storage": ("BaseStorage", "EdgeStorage", "GlobalStorage", "NodeStorage"),
}


class StoredType:
    """A type of NumPy, by its code and byte order alone."""

    def __init__(self, code: str, *options: Any) -> None:
        self.code = code
        self.order: Any = "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


class StoredArray:
    """An array of numbers made from its bytes; `array` is None for other types."""

    array: Any = None

    def __setstate__(self, state: Any) -> None:
        import numpy as np

        _, shape, stored, fortran, data = state
        if isinstance(stored, StoredType) and stored.code in _CODES and isinstance(data, bytes):
            kind = np.dtype(stored.code).newbyteorder(stored.order)
            flat = np.frombuffer(data, kind)
            self.array = flat.reshape(shape, order="F" if fortran else "C")


_CODES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")


@cache
def allowed_classes() -> tuple[Callable[..., Any], ...]:
    """The stand-ins for `torch.serialization.safe_globals`, which finds them by module and name."""
    allowed: list[Any] = [argparse.Namespace, collections.defaultdict, dict, list]
    allowed += [StandIn, make_stand_in, StoredArray]
    allowed.append(_named(_Getter, "torch_geometric.data.batch", "DynamicInheritanceGetter"))
    for module, names in _GEOMETRIC.items():
        allowed += [_named(StandIn, f"torch_geometric.data.{module}", name) for name in names]
    allowed.append(_named(StoredType, "numpy", "dtype"))
    allowed.append(_named(StandIn, "numpy", "ndarray"))
    for home in ("numpy._core", "numpy.core"):  # from version 2 of NumPy on, and before
        allowed.append(_maker_of(StoredArray, f"{home}.multiarray", "_reconstruct"))
        allowed.append(_maker_of(StandIn, f"{home}.multiarray", "scalar"))
    return tuple(allowed)


def _named(base: type, module: str, name: str) -> type:
    return type(name, (base,), {"__module__": module, "__qualname__": name})


def _maker_of(made: type, module: str, name: str) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        return made()

    call.__module__, call.__qualname__ = module, name
    return call
