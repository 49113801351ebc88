"""Sampling from a model in training, without side effects on it."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

import numpy as np

from novelty_metric.crystal import first_line
from novelty_metric.errors import InputError

Sampler = str | Callable[..., Any]
"""Name of a method of the model that takes a number; or a callable that takes the model and a
number, or a number alone. Each returns this many crystals. `sampler_call` lists the accepted
signatures.
"""


@contextlib.contextmanager
def randomness_kept() -> Iterator[None]:
    """Restore the random state of Python, NumPy and torch (all devices in use)."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    torch = sys.modules.get("torch")
    kept: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if torch is not None:
        on_gpus = torch.cuda.is_available() and torch.cuda.is_initialized()
        kept = torch.random.fork_rng(range(torch.cuda.device_count()) if on_gpus else ())
    with kept:
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002


@contextlib.contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """Put a module into evaluation mode, and restore the mode of all its parts later."""
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
    """Torch settings for a relaxation: gradients on, no inference mode, no autocast, float32.

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


def draw(
    sample: Sampler, module: Any, count: int, seed: tuple[int, ...], *, fail_fast: bool = False
) -> tuple[list[Any], str | None]:
    """Crystals from the sampler; errors of the sampler become messages.

    Parameters
    ----------
    sample : Sampler
    module : object or None
        The model.
    count : int
    seed : tuple of int
        Seeds Python, NumPy and torch; should differ between epochs and processes.
    fail_fast : bool
        Raise what the sampler raises, and an error for each other problem.

    Returns
    -------
    structures : list
        As many as were wanted; None for each that is missing or is not a crystal.
    problem : str or None
        What was not as it should be, in a line.

    Raises
    ------
    InputError
        If the sampler can't be called; with `fail_fast`, if it gives anything but that many
        crystals.
    """
    call = sampler_call(sample, module)
    found: list[Any] = []
    problem: str | None = None
    with randomness_kept(), evaluating(module):
        _seed(seed)
        torch = sys.modules.get("torch")
        with contextlib.nullcontext() if torch is None else torch.no_grad():
            try:
                problem = _take(call(count), count, found)
            except Exception as error:
                if fail_fast:
                    raise
                problem = f"raised {type(error).__name__}: {first_line(error)}"
    structures = [item if _is_crystal(item) else None for item in found[:count]]
    structures += [None] * (count - len(structures))
    if problem is not None:
        if fail_fast:
            raise InputError(f"the sampler {problem}")
        unreadable = structures.count(None)
        problem = f"the sampler {problem}; {unreadable} of {count} count as unreadable"
    return structures, problem


def _take(given: Any, count: int, found: list[Any]) -> str | None:
    """Put the crystals into `found`, at most one more than requested; returns the fault."""
    wanted = f"where {count} {'crystal was' if count == 1 else 'crystals were'} wanted"
    if _is_crystal(given):
        given = [given]
    is_numbers = str(getattr(given, "dtype", "object")) != "object"  # an array or a tensor
    if is_numbers or isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        return f"gave {_kind(given)} {wanted}"
    found.extend(itertools.islice(given, count + 1))  # what came before an error stays
    # None is how a sampler says that a crystal failed.
    odd = Counter(
        _kind(item) for item in found[:count] if item is not None and not _is_crystal(item)
    )
    kinds = ", ".join(f"{number} times {kind}" for kind, number in odd.most_common(3))
    no_crystals = f", and what is not a crystal: {kinds}" if odd else ""
    if len(found) == count:
        return f"gave what is not a crystal {wanted}: {kinds}" if odd else None
    number = f"more than {count}" if len(found) > count else str(len(found))
    if isinstance(given, Sized):
        number = str(len(given))
    return f"gave {number} {wanted}{no_crystals}"


def _kind(value: Any) -> str:
    """A short description of a value for a message."""
    if value is None:
        return "None"
    if isinstance(value, str):
        return f"the text {value if len(value) <= 20 else value[:17] + '...'!r}"
    shape = getattr(value, "shape", None)
    return type(value).__name__ + (f" of shape {tuple(shape)}" if isinstance(shape, tuple) else "")


def _is_crystal(value: Any) -> bool:
    """True for a Structure of pymatgen or Atoms of ASE, without importing either."""
    of_pymatgen = hasattr(value, "lattice") and hasattr(value, "sites")
    return of_pymatgen or hasattr(value, "get_scaled_positions")


COUNT_NAMES = (
    *("n_samples", "num_samples", "nsamples", "n_crystals", "num_crystals", "n_structures"),
    *("num_structures", "n", "count", "number", "num", "sample_size", "size", "batch_size", "k"),
)
"""Names of a sampler's argument for the number of crystals, the most specific first."""

MODEL_NAMES = ("model", "pl_module", "module", "lightning_module", "network", "net")
"""Names of a sampler's argument for the model."""


def sampler_call(sample: Sampler, module: Any) -> Callable[[int], Any]:
    """The sampler as a function of the number alone.

    Arguments are known by their names (`COUNT_NAMES`, `MODEL_NAMES`); where those tell nothing,
    the first that has to be given is the model and the next the number, or a single one the number.

    Raises
    ------
    InputError
        If the model has no method of that name, or an argument has to be given that is neither.
    """
    if not isinstance(sample, str):
        method = getattr(sample, "sample", None)
        if hasattr(sample, "named_parameters") and callable(method):  # a module of torch
            return _bound(method, None, takes_model=False)
        has_model = module is not None and getattr(sample, "__self__", None) is module
        return _bound(sample, module, takes_model=not has_model)
    owner = module
    while not hasattr(owner, sample) and hasattr(owner, "module"):
        owner = owner.module  # wrapped for training in parallel
    method = getattr(owner, sample, None)
    if not callable(method):
        raise InputError(
            f"{type(module).__name__} has no method {sample!r}; name the method that takes a "
            "number and returns crystals, or pass a callable as sample="
        )
    return _bound(method, None, takes_model=False)


def _bound(function: Callable[..., Any], module: Any, *, takes_model: bool) -> Callable[[int], Any]:
    """A function that may take the model, as a function of the number."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a built-in
        return function
    # What functools.partial gives is the user's choice.
    fixed = function.keywords if isinstance(function, functools.partial) else {}
    free = {name: p for name, p in signature.parameters.items() if name not in fixed}
    places = _places(free, takes_model=takes_model, has_model=module is not None)
    if module is None and "model" in places:
        if free[places["model"]].default is inspect.Parameter.empty:
            raise InputError("the sampler takes the model, but none was given to step()")
        del places["model"]
    missing = [
        name
        for name, p in free.items()
        if p.default is p.empty and p.kind not in _VARIABLE and name not in places.values()
    ]
    if missing:
        raise InputError(
            f"the sampler needs {missing[0]!r}, which is neither the model nor the number of "
            f"crystals; give it, as in sample=lambda model, n: …({missing[0]}=…)"
        )

    def call(count: int) -> Any:
        bound = signature.bind_partial()
        for what, value in (("model", module), ("count", count)):
            name = places.get(what)
            if name is None:
                continue
            kind = free[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                value = (*bound.arguments.get(name, ()), value)
            elif kind is inspect.Parameter.VAR_KEYWORD:
                value = {**bound.arguments.get(name, {}), {"count": "n"}.get(what, what): value}
            bound.arguments[name] = value
        bound.apply_defaults()
        return function(*bound.args, **bound.kwargs)

    return call


_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _places(
    free: Mapping[str, inspect.Parameter], *, takes_model: bool, has_model: bool
) -> dict[str, str]:
    """The names of the arguments for the ``model`` and the ``count``."""
    places: dict[str, str] = {}
    named = {p.name.lower(): name for name, p in free.items() if p.kind not in _VARIABLE}
    for what, names in (("model", MODEL_NAMES if takes_model else ()), ("count", COUNT_NAMES)):
        known = [named[name] for name in names if name in named]
        if known:
            places[what] = known[0]
    unnamed = [
        name
        for name, p in free.items()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        and p.default is p.empty
        and name.lower() not in (*MODEL_NAMES, *COUNT_NAMES)
    ]
    if takes_model and "model" not in places and unnamed:
        order = list(free)
        is_first = "count" in places and order.index(unnamed[0]) < order.index(places["count"])
        if is_first or ("count" not in places and len(unnamed) > 1):
            places["model"] = unnamed.pop(0)
    if "count" not in places:
        # Whatever it is handed on to: the model first, as everywhere.
        variable = (name for name, p in free.items() if p.kind in _VARIABLE)
        place = unnamed[0] if unnamed else next(variable, None)
        if place is not None:
            places["count"] = place
            if takes_model and has_model and not unnamed:
                places.setdefault("model", place)
    return places


def _seed(seed: tuple[int, ...]) -> None:
    first, second, third = np.random.SeedSequence(seed).generate_state(3)
    random.seed(int(first))
    np.random.seed(int(second))  # noqa: NPY002
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(int(third))
