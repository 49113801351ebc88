"""Access to the compiled pair test and its kernels from the tests."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from pymatgen.core import Structure

from novelty_metric.reference import Reference


def furthest_steps_of(
    generated: Structure,
    reference: Reference,
    indices: Sequence[int] | np.ndarray,
) -> np.ndarray:
    """The last step that each pair reaches, with the default tolerances."""
    from novelty_metric.search.kernels import Pairs, furthest_steps

    return furthest_steps(
        Pairs.of(
            generated.lattice.matrix,
            generated.frac_coords,
            generated.atomic_numbers,
            reference.lattices,
            reference.offsets,
            reference.frac_coords,
            reference.numbers,
        ),
        np.array(indices, dtype=np.int64),
        np.array([0, 10**12]),
        ltol=0.2,
        stol=0.3,
        angle_tol=5.0,
    )


class KernelsFromPython:
    """The functions of `kernels`, callable from Python.

    Functions that only compiled functions can call are wrapped. All others are unchanged, as are
    all functions without compilation.
    """

    def __init__(self, kernels: Any) -> None:
        self._files = [
            importlib.import_module(f"{kernels.__name__}.{file.name}")
            for file in pkgutil.iter_modules(kernels.__path__)
        ]

    def __getattr__(self, name: str) -> Any:
        for file in self._files:
            if hasattr(file, name):
                value = getattr(file, name)
                return caller(value) if hasattr(value, "py_func") else value
        raise AttributeError(name)


def caller(function: Any) -> Callable[..., Any]:
    from novelty_metric.search.kernels.by_reference import ByReference, to_kernel

    def call(*arguments: Any) -> Any:
        by_reference = [isinstance(a, ByReference) for a in arguments]
        classes = tuple(
            type(a) if b else None for a, b in zip(arguments, by_reference, strict=True)
        )
        return compiled_caller(function, classes)(
            *(to_kernel(a) if b else a for a, b in zip(arguments, by_reference, strict=True))
        )

    return call


@cache
def compiled_caller(function: Any, classes: tuple[type | None, ...]) -> Any:
    from novelty_metric.search.kernels.by_reference import from_kernel
    from novelty_metric.search.kernels.compilation import compiled

    names = [f"a{i}" for i in range(len(classes))]
    passed = [n if c is None else f"take_{n}({n})" for n, c in zip(names, classes, strict=True)]
    scope = {
        f"take_{n}": from_kernel(c) for n, c in zip(names, classes, strict=True) if c is not None
    }
    code = f"def call({', '.join(names)}):\n    return function({', '.join(passed)})\n"
    exec(code, scope | {"function": function}, scope)
    return compiled(scope["call"], cache=False)
