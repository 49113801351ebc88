"""Sample from a model that is in training, and leave no trace of it."""

from __future__ import annotations

import contextlib
import inspect
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from novelty_metric.errors import InputError

Sampler = str | Callable[..., Any]
"""Name of a method of the model that takes a number, or a callable that takes the model and a
number, or a number alone; either gives that many crystals."""


@contextlib.contextmanager
def randomness_kept() -> Iterator[None]:
    """Give Python, NumPy and torch (each device that is in use) their random state back."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    torch = sys.modules.get("torch")
    on_cpu = None if torch is None else torch.get_rng_state()
    on_gpus = None
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        on_gpus = torch.cuda.get_rng_state_all()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        if torch is not None:
            torch.set_rng_state(on_cpu)
            if on_gpus is not None:
                torch.cuda.set_rng_state_all(on_gpus)


@contextlib.contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """Put a module in evaluation mode, and every part of it back into the mode that it had."""
    if not hasattr(module, "modules"):
        yield
        return
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextlib.contextmanager
def plain_torch() -> Iterator[None]:
    """Torch as a relaxation needs it: gradients on, no inference mode, no autocast, float32.

    Lightning validates under inference mode, where no forces can be computed.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    kinds = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    dtype = torch.get_default_dtype()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in kinds:
            stack.enter_context(torch.autocast(kind, enabled=False))
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def draw(sample: Sampler, module: Any, count: int, seed: tuple[int, ...]) -> list[Any]:
    """Crystals from the sampler; None for each that it owes.

    Parameters
    ----------
    sample : Sampler
    module : object or None
        The model.
    count : int
    seed : tuple of int
        Seeds Python, NumPy and torch; should differ between epochs and processes.

    Raises
    ------
    InputError
        If the sampler can't be called, or gives more crystals than it was asked for.
    """
    call = _call(sample, module)
    with randomness_kept(), evaluating(module):
        _seed(seed)
        torch = sys.modules.get("torch")
        with contextlib.nullcontext() if torch is None else torch.no_grad():
            given = list(call(count))
    if len(given) > count:
        raise InputError(f"the sampler gave {len(given)} crystals where {count} were wanted")
    return given + [None] * (count - len(given))


def _call(sample: Sampler, module: Any) -> Callable[[int], Any]:
    if isinstance(sample, str):
        method = getattr(module, sample, None)
        if not callable(method):
            raise InputError(
                f"{type(module).__name__} has no method {sample!r}; name the one that takes a "
                "number and gives crystals, or pass a callable as sample="
            )
        return method
    if _takes(sample) >= 2:
        return lambda count: sample(module, count)
    return sample


def _takes(function: Callable[..., Any]) -> int:
    """How many positional arguments a callable needs."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a built-in
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters)


def _seed(seed: tuple[int, ...]) -> None:
    first, second, third = np.random.SeedSequence(seed).generate_state(3)
    random.seed(int(first))
    np.random.seed(int(second))  # noqa: NPY002
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(int(third))
