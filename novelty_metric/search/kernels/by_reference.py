"""`ByReference`: many arrays that compiled functions pass on as one pointer.

A named tuple of arrays goes from one compiled function to the next by value, with seven or more
words for each array. For some fifty arrays that is hundreds of words at every call, and much of the
time that it takes to compile them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, intrinsic, lower_getattr_generic, models, register_model

T = TypeVar("T")


class ByReference:
    """Base of frozen data classes whose fields are arrays in C order, or objects of such classes.

    Compiled functions read the fields, and read and write what the arrays hold. To them none is
    read-only, so that they are compiled for one kind. Without compilation it is an ordinary object.

    Raises
    ------
    ValueError
        An array is not in C order, or not of the type and number of dimensions that it was of in
        the first object of the class.
    """

    _table: np.ndarray
    _kind: Fields

    def __post_init__(self) -> None:
        """Store the addresses of the arrays for compiled functions."""
        of, fields = type(self), dict(vars(self))
        words: list[int] = []
        sorts: list[Any] = []
        for name, value in fields.items():
            if isinstance(value, ByReference):
                words.append(_start(value._table))
                sorts.append(value._kind)
                continue
            if not (value.flags.c_contiguous and value.flags.aligned):
                raise ValueError(f"{of.__name__}.{name} is not in C order")
            words += (_start(value), *value.shape)
            sorts += (value.dtype, value.ndim)
        if of not in _KINDS:
            _KINDS[of] = Fields.of(of.__name__, fields), sorts
        kind, usual = _KINDS[of]
        if sorts != usual:
            raise ValueError(f"{of.__name__} is of {usual}, not of {sorts}")
        # As the class is frozen:
        object.__setattr__(self, "_table", np.array(words, dtype=np.int64))
        object.__setattr__(self, "_kind", kind)


def _start(values: np.ndarray) -> int:
    start: int = values.__array_interface__["data"][0]
    return start


class Fields(types.Type):
    """numba's type of a `ByReference`: names and types of its fields.

    In memory that is words, one after another: of an array where its data begin, then its shape; of
    another `ByReference` where that begins.
    """

    def __init__(self, of: str, kinds: tuple[tuple[str, Any], ...]) -> None:
        self.kinds = kinds
        super().__init__(name=of)

    @classmethod
    def of(cls, name: str, fields: dict[str, Any]) -> Fields:
        """The type of an object with such fields."""
        kinds = {
            field: value._kind
            if isinstance(value, ByReference)
            else numba.typeof(value).copy(readonly=False)
            for field, value in fields.items()
        }
        return cls(name, tuple(kinds.items()))

    @property
    def key(self) -> tuple[Any, ...]:
        """Identity of the type; its name is part of the names of compiled functions."""
        return self.name, self.kinds

    def place(self, attribute: str) -> tuple[Any, int]:
        """Type of a field, None if it does not exist, and its first word."""
        word = 0
        for name, kind in self.kinds:
            if name == attribute:
                return kind, word
            word += 1 + getattr(kind, "ndim", 0)
        return None, word


_KINDS: dict[type, tuple[Fields, list[Any]]] = {}

register_model(Fields)(models.OpaqueModel)


def to_kernel(value: Any) -> Any:
    """The argument for a compiled function with `from_kernel`: a plain array, which is fast."""
    return value if _not_compiling() else value._table


def from_kernel(of: type[T]) -> Callable[[Any], T]:
    """A function for compiled code that returns the object passed by `to_kernel`.

    One object has to be made before they are compiled.
    """
    if _not_compiling():
        return cast("Callable[[Any], T]", lambda value: value)

    @intrinsic
    def take(_context: Any, table: Any) -> Any:
        def start(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            words = context.make_array(signature.args[0])(context, builder, arguments[0])
            return builder.bitcast(words.data, cgutils.voidptr_t)

        return _KINDS[of][0](table), start

    return cast("Callable[[Any], T]", take)


def _not_compiling() -> bool:
    return bool(cast("Any", numba.config).DISABLE_JIT)


@infer_getattr
class _Attributes(AttributeTemplate):
    key = Fields

    def generic_resolve(self, value: Any, attr: str) -> Any:  # type: ignore[override]
        return value.place(attr)[0]


@lower_getattr_generic(Fields)
def _read(context: Any, builder: Any, kind: Fields, value: Any, attribute: str) -> Any:
    """Read a field. Fields are constant, so that a loop need not read them again."""
    field, word = kind.place(attribute)
    never = builder.module.add_metadata([])

    def load(word: int, as_type: Any) -> Any:
        place = builder.gep(value, [context.get_constant(types.intp, 8 * word)], inbounds=True)
        found = builder.load(builder.bitcast(place, as_type.as_pointer()))
        found.set_metadata("invariant.load", never)
        return found

    if isinstance(field, Fields):
        return load(word, cgutils.voidptr_t)
    array = cgutils.create_struct_proxy(field)(context, builder)
    intp = context.get_value_type(types.intp)
    size = context.get_abi_sizeof(context.get_data_type(field.dtype))
    shape = [load(word + 1 + axis, intp) for axis in range(field.ndim)]
    strides = [context.get_constant(types.intp, size)]
    for length in shape[:0:-1]:
        strides.insert(0, builder.mul(strides[0], length))
    array.nitems = context.get_constant(types.intp, 1)
    for length in shape:
        array.nitems = builder.mul(array.nitems, length)
    array.itemsize = strides[-1]
    array.data = load(word, array.data.type)
    array.shape = cgutils.pack_array(builder, shape, ty=intp)
    array.strides = cgutils.pack_array(builder, strides, ty=intp)
    for owner in ("meminfo", "parent"):  # whoever holds the object
        setattr(array, owner, cgutils.get_null_value(getattr(array, owner).type))
    return array._getvalue()
