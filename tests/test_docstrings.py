"""Every public name says what it is, and what it answers to in Metal Performance Shaders."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType

import pytest


@pytest.fixture(params=["binconv", "binconv.metal"])
def package(request: pytest.FixtureRequest) -> ModuleType:
    if request.param == "binconv.metal":
        pytest.importorskip("wgpu")
    return importlib.import_module(request.param)


def public_objects(package: ModuleType) -> dict[str, object]:
    return {name: getattr(package, name) for name in package.__all__ if name != "__version__"}


def members(kind: type) -> Iterator[tuple[str, object]]:
    """The package's own public methods and properties of a class, and `__call__`."""
    for owner in kind.__mro__:
        if owner.__module__.partition(".")[0] != "binconv":
            continue
        for name, member in vars(owner).items():
            function = getattr(member, "__func__", member)  # of a classmethod or staticmethod
            is_public = name == "__call__" or not name.startswith("_")
            if is_public and (inspect.isfunction(function) or isinstance(function, property)):
                yield f"{owner.__name__}.{name}", function


def test_public_names_say_what_they_are_in_mps(package: ModuleType) -> None:
    """`MPS: ` and a symbol, or that MPS has nothing like it."""
    assert package.__doc__
    found = public_objects(package)
    assert not [name for name, item in found.items() if "MPS" not in (item.__doc__ or "")]


def test_public_members_say_what_they_are(package: ModuleType) -> None:
    kinds = [item for item in public_objects(package).values() if inspect.isclass(item)]
    found = dict(pair for kind in kinds for pair in members(kind))
    assert len(found) > 40
    assert not [name for name, member in found.items() if not member.__doc__]
