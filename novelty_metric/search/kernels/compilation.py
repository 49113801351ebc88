"""Compilation of the functions in this room, and its cache."""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.targetconfig import TargetConfig

Function = TypeVar("Function", bound=Callable[..., Any])


def _digest_of_room() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


_ROOM = _digest_of_room()
"""Digest of all files of this room. numba's cache only checks the file of the function itself, and
would otherwise keep outdated code of functions in other files.
"""

_PLACE = [_ROOM, str(Path(__file__).parent), numba.__version__, os.environ.get("NUMBA_CACHE_DIR")]
CACHE_KEY = hashlib.sha256(repr(_PLACE).encode()).hexdigest()[:16]
"""Digest of the compiled code and of the location of numba's cache."""


def compiled(function: Function, *, cache: bool = True, **options: Any) -> Function:
    """Compile for calls from Python, without the interpreter lock, and cached on disk if possible.

    numba keeps its cache beside the module, or in the user's cache folder if that is read-only. If
    neither can be written it raises at once; then the cache is done without. It is found by the
    name of the function, which therefore tells the state of this room.

    Arrays are not counted as they are handed around, so none may be made inside. numba does without
    that where its run-time for memory is off, an option that it does not document.
    """
    # With NumPy's error model a division needs no check for zero, which would keep loops scalar.
    if cache:
        function.__qualname__ += f"-{_ROOM}"
    options |= {"cache": cache, "nogil": True, "error_model": "numpy", "_nrt": False}
    njit: Any = numba.njit
    while True:
        try:
            return cast("Function", njit(**options)(function))
        except KeyError:
            del options["_nrt"]
        except RuntimeError:
            if not options["cache"]:
                raise
            options["cache"] = False


class _LinkedLibrary(JITCodeLibrary):
    """Code that only other libraries link; it is optimised and assembled once, there.

    numba optimises and assembles every library with all that it calls, a function at the bottom of
    six levels six times.
    """

    def _optimize_final_module(self) -> None:
        """Do nothing; the libraries that link this one optimise it."""

    def _finalize_final_module(self) -> None:
        """Make the library ready for linking, not for execution."""
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return 0: functions of this library cannot be called from Python."""
        return 0

    @property
    def codegen(self) -> _LinkedLibrary:
        """The object that receives the environment; nothing here reads it."""
        return self

    def set_env(self, env_name: str, env: Any) -> None:
        """Ignore the environment."""


class _InternalCompiler(Compiler):
    """Compiler of numba that makes a `_LinkedLibrary`."""

    def define_pipelines(self) -> Any:
        """The pipelines of numba, with the library replaced."""
        state = self.state
        state.library = _LinkedLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        return super().define_pipelines()


def internal(function: Function) -> Function:
    """Compile for calls from other compiled functions only, without the wrapper for Python.

    Called from Python it takes the process down.
    """
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    made: Any = compiled(function, cache=False, pipeline_class=_InternalCompiler, **options)
    if cast("Any", numba.config).DISABLE_JIT:
        return cast("Function", made)
    resolve = made.get_call_template

    def without_literals(args: Any, kws: Any) -> Any:
        """Resolve a call. Numbers are not literals; numba would compile the function for each."""
        kws = {name: types.unliteral(kind) for name, kind in kws.items()}
        return resolve(tuple(types.unliteral(kind) for kind in args), kws)

    made.get_call_template = without_literals
    return cast("Function", made)


def inlined(function: Function) -> Function:
    """Compile inline: the caller contains the code, one level less to optimise and assemble."""
    return compiled(function, cache=False, inline="always")


def given(values: np.ndarray, dtype: type) -> np.ndarray:
    """An array for the kernels: read-only, so that only one variant is compiled."""
    view: np.ndarray = np.ascontiguousarray(values, dtype=dtype).view()
    view.flags.writeable = False
    return view


@contextmanager
def quick_compilation() -> Iterator[None]:
    """Compile in four fifths of the time, to the same code.

    Python's garbage collector takes a tenth of it, and so does the comparison of numba's compiler
    options: numba hashes and compares all of them for each call that it resolves.
    """
    was_enabled = gc.isenabled()
    equal, hashed = TargetConfig.__eq__, TargetConfig.__hash__
    hashes: dict[type, int] = {}

    def equal_if_set_alike(one: Any, other: Any) -> Any:
        set_alike = type(one) is type(other) and one._values == other._values
        return set_alike or equal(one, other)

    def hash_of_class(one: Any) -> int:
        # numba takes the hash of the names of the options, which is that of the class.
        kind = type(one)
        if kind not in hashes:
            hashes[kind] = hashed(one)
        return hashes[kind]

    patched: Any = TargetConfig
    gc.disable()
    patched.__eq__, patched.__hash__ = equal_if_set_alike, hash_of_class
    try:
        yield
    finally:
        patched.__eq__, patched.__hash__ = equal, hashed
        if was_enabled:
            gc.enable()
