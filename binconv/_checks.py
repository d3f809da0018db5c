"""Validation of plain arguments: each function returns the value, or says what is wrong with it.

Messages have one form: the argument's name, what was expected, what came.
"""

from __future__ import annotations

import operator
from enum import IntEnum
from numbers import Real
from typing import TypeVar

import numpy as np

# The C core refuses larger sizes, so that the product of two of them fits an int64.
MAX_SIZE = 2**31 - 1
# The largest product of sizes, in bytes, that a pointer difference can hold.
MAX_BYTES = 2**63 - 1

_FLOAT32_MAX = float(np.finfo(np.float32).max)

E = TypeVar("E", bound=IntEnum)


def describe(value: object) -> str:
    """A short name of what came, for a message."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} with shape {value.shape}"
    if value is None or isinstance(value, (bool, int, float, str, np.generic)):
        text = repr(value)
        return text if len(text) <= 40 else f"{text[:37]}..."
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of length {len(value)}"
    return f"an object of type {type(value).__name__}"


def integer(value: object, name: str, minimum: int = -MAX_SIZE, maximum: int = MAX_SIZE) -> int:
    """An int in [minimum, maximum]; bool is not one, NumPy's integers are."""
    if type(value) is not int:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name}: expected an integer, got {value!r}")
        try:
            value = operator.index(value)  # type: ignore[arg-type]  # this is the check
        except TypeError:
            raise TypeError(f"{name}: expected an integer, got {describe(value)}") from None
    if not minimum <= value <= maximum:
        kind = f"of at least {minimum}" if value < minimum else f"of at most {maximum}"
        raise ValueError(f"{name}: expected an integer {kind}, got {describe(value)}")
    return value


def positive(value: object, name: str) -> int:
    """An int of at least 1."""
    return integer(value, name, minimum=1)


def real(value: object, name: str) -> float:
    """A finite number that is finite in float32 too."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a real number, got {describe(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not abs(number) <= _FLOAT32_MAX:
        raise ValueError(f"{name}: expected a finite number of float32, got {describe(value)}")
    return number


def member(kind: type[E], value: object, name: str) -> E:
    """A member of an enumeration, or the integer that is its value."""
    if isinstance(value, kind):
        return value
    names = ", ".join(f"{item.name} {item.value}" for item in kind)
    expected = f"{name}: expected a member of {kind.__name__} ({names}), got {describe(value)}"
    try:
        return kind(integer(value, name))
    except TypeError:
        raise TypeError(expected) from None
    except ValueError:
        raise ValueError(expected) from None


def text(value: object, name: str) -> str | None:
    """A str or None."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name}: expected a str or None, got {describe(value)}")
    return value


def size(value: object, name: str) -> tuple[int, int]:
    """A (height, width) pair, each at least 0."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name}: expected (height, width), got {describe(value)}")
    height, width = value
    return integer(height, f"{name} height", minimum=0), integer(width, f"{name} width", minimum=0)
