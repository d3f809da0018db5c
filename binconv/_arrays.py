"""Arrays from whatever holds one (NumPy, __dlpack__ or __array__ on the CPU), and their checks."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from . import _checks

# numpy.ndarray.flags.num, read once where a call would read two or three of the flags.
_C_CONTIGUOUS, _ALIGNED, _WRITEABLE = 0x1, 0x100, 0x400
READABLE = _C_CONTIGUOUS | _ALIGNED
WRITABLE = READABLE | _WRITEABLE


class SupportsDLPack(Protocol):
    """A tensor of any framework, on the CPU."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...


class SupportsArray(Protocol):
    """Anything that turns into a NumPy array."""

    def __array__(self, *args: Any, **kwargs: Any) -> NDArray[Any]: ...


class SupportsArrayInterface(Protocol):
    """Anything that describes its memory to NumPy, such as a Pillow image."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


def as_array(value: object, name: str) -> NDArray[Any]:
    """A NumPy array over the same memory where that is possible.

    TypeError for what is not an array, sequences of numbers among them: their dtype is a guess.
    """
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
        try:
            return np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError) as error:
            if not hasattr(value, "__array__"):
                raise TypeError(
                    f"{name}: expected an array in CPU memory, got {_checks.describe(value)} "
                    f"whose __dlpack__ failed: {error}"
                ) from error
    if hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
        try:
            return np.asarray(value)
        except (RuntimeError, TypeError, ValueError) as error:
            raise TypeError(
                f"{name}: expected an array in CPU memory, got {_checks.describe(value)} "
                f"that does not turn into one: {error}"
            ) from error
    raise TypeError(f"{name}: expected an array, got {_checks.describe(value)}")


def as_array_like(value: object, name: str) -> NDArray[Any]:
    """`as_array`, and sequences of numbers as well, for parameters."""
    if not isinstance(value, (list, tuple)):
        return as_array(value, name)
    try:
        return np.asarray(value)
    except ValueError:
        raise ValueError(f"{name}: expected an array, got a ragged sequence") from None


def readable(array: NDArray[Any]) -> NDArray[Any]:
    """The array, or a copy where it is not C-contiguous, aligned and of native byte order."""
    if array.flags.num & READABLE == READABLE and array.dtype.isnative:
        return array
    return np.require(array, array.dtype.newbyteorder("="), ["C_CONTIGUOUS", "ALIGNED"])


def overlap(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two arrays share memory; True where finding out would take long."""
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type]  # any int
    except np.exceptions.TooHardError:
        return True


def overlaps_itself(array: NDArray[Any]) -> bool:
    """Whether two elements share memory; True where finding out would take long."""
    if array.flags.forc:
        return False
    # The widest stride first: in usual memory each index along it then has bounds of its own.
    rest = array.transpose(np.argsort(np.abs(array.strides))[::-1])
    # Two elements differ in some first axis; those before it may as well be at 0, as may the lower
    # of the two along it.
    while rest.ndim and rest.size:
        if overlap(rest[:1], rest[1:]):
            return True
        rest = rest[0]
    return False


def is_float(dtype: np.dtype[Any]) -> bool:
    """float16, float32 or float64, in any byte order (not longdouble)."""
    return dtype.kind == "f" and dtype.itemsize <= 8


def freeze(array: NDArray[Any]) -> NDArray[Any]:
    """The array itself, made read-only; it must not be shared with the caller."""
    array.flags.writeable = False
    return array


def terms(
    value: object, name: str, length: int | None = None, dtype: type[np.floating[Any]] = np.float32
) -> NDArray[Any]:
    """A read-only, C-contiguous copy of a 1-D array (or sequence) of finite numbers."""
    array = as_array_like(value, name)
    if not (is_float(array.dtype) or array.dtype.kind in "iu"):
        raise TypeError(f"{name}: expected an array of floats, got {_checks.describe(array)}")
    if array.ndim != 1 or (length is not None and array.shape[0] != length):
        expected = "a 1-D array" if length is None else f"an array of shape ({length},)"
        raise ValueError(f"{name}: expected {expected}, got shape {array.shape}")
    with np.errstate(over="ignore"):  # seen as an infinity in the next line
        result = np.array(array, dtype, order="C")
    if not np.isfinite(result).all():
        at = int(np.flatnonzero(~np.isfinite(result))[0])
        raise ValueError(
            f"{name}: expected finite numbers of {np.dtype(dtype)}, got {array[at]!r} at {at}"
        )
    return freeze(result)


def optional_terms(value: object, name: str, length: int) -> NDArray[np.float32] | None:
    """`terms` in float32, or None."""
    return None if value is None else terms(value, name, length)


def same_array(a: NDArray[Any] | None, b: NDArray[Any] | None) -> bool:
    """Equality of two optional arrays."""
    if a is None or b is None:
        return a is b
    return np.array_equal(a, b)
