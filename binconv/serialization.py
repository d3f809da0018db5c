"""The serialised form: safetensors, with the layers described in JSON in its header.

docs/file-format.md is the format's own page.  Nothing that is read is executed; whatever is wrong
with it is a ValueError.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from . import _arrays, _checks
from ._parameters import TERMS, LayerParameters, LayerState
from .descriptors import (
    BatchNormalization,
    ConvolutionDescriptor,
    DepthWiseConvolutionDescriptor,
    NeuronDescriptor,
    SubPixelConvolutionDescriptor,
)
from .enums import NeuronType
from .geometry import Offset, Padding, PaddingPolicy, Region

_FORMAT = "binconv"
_VERSION = "1"
_KINDS = {"BinaryConvolution": False, "BinaryFullyConnected": True}
_DESCRIPTORS: dict[str, type[ConvolutionDescriptor]] = {
    kind.__name__: kind
    for kind in (
        SubPixelConvolutionDescriptor,
        DepthWiseConvolutionDescriptor,
        ConvolutionDescriptor,
    )
}
_NORM_ARRAYS = ("mean", "variance", "gamma", "beta")


class LayerRecord(NamedTuple):
    """A layer as it is stored."""

    # What the names of its tensors begin with.
    prefix: str
    label: str | None
    parameters: LayerParameters
    state: LayerState


class _Archive(NamedTuple):
    """An open safetensors file."""

    metadata: dict[str, str]
    names: frozenset[str]
    tensor: Callable[[str], NDArray[Any]]

    def array(
        self, name: str, shape: tuple[int, ...], *dtypes: type[np.generic]
    ) -> NDArray[Any] | None:
        """A tensor of that name and shape and of one of the dtypes; None where there is none."""
        if name not in self.names:
            return None
        array = self.tensor(name)
        if array.dtype not in dtypes or array.shape != shape:
            raise ValueError(
                f"tensor {name}: expected {np.dtype(dtypes[0])} of shape {shape}, "
                f"got {array.dtype} of shape {array.shape}"
            )
        return array


# ---- Writing ------------------------------------------------------------------------------------


def dump(records: Sequence[LayerRecord]) -> bytes:
    """The serialised form of layers, the same bytes for the same layers."""
    tensors: dict[str, NDArray[Any]] = {}
    for record in records:
        for name, array in _tensors(record.parameters):
            tensors[record.prefix + name] = array
    metadata = {
        "format": _FORMAT,
        "version": _VERSION,
        "layers": json.dumps([_describe(record) for record in records]),
    }
    return _ordered(safetensors.numpy.save(tensors, metadata))


def _ordered(data: bytes) -> bytes:
    """The same file with its header in one order: safetensors writes that of a hash table."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(dict(sorted(header.items())), separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def _tensors(parameters: LayerParameters) -> Iterator[tuple[str, NDArray[Any]]]:
    yield "weights", parameters.weights
    descriptor = parameters.descriptor
    arrays: dict[str, NDArray[Any] | None] = {"bias_terms": parameters.bias_terms}
    for name, _ in TERMS:
        arrays[name] = getattr(parameters, name)
    arrays["neuron_a"] = descriptor.neuron.a_terms
    if descriptor.batch_normalization is not None:
        for name in _NORM_ARRAYS:
            array = getattr(descriptor.batch_normalization, name)
            arrays[f"batch_normalization.{name}"] = array
    for name, optional in arrays.items():
        if optional is not None:
            yield name, optional


def _describe(record: LayerRecord) -> dict[str, Any]:
    parameters = record.parameters
    kinds = {value: kind for kind, value in _KINDS.items()}
    return {
        "prefix": record.prefix,
        "kind": kinds[parameters.is_fully_connected],
        "label": record.label,
        "descriptor": _describe_descriptor(parameters.descriptor),
        "type": int(parameters.type),
        "flags": int(parameters.flags),
        "scale_value": parameters.scale_value,
        "state": _describe_state(record.state),
    }


def _describe_descriptor(descriptor: ConvolutionDescriptor) -> dict[str, Any]:
    name = next(name for name, kind in _DESCRIPTORS.items() if isinstance(descriptor, kind))
    neuron, norm = descriptor.neuron, descriptor.batch_normalization
    described: dict[str, Any] = {
        item.name: getattr(descriptor, item.name) for item in fields(_DESCRIPTORS[name])
    }
    described["class"] = name
    described["neuron"] = {
        "type": int(neuron.type),
        "a": neuron.a if isinstance(neuron.a, float) else None,
        "b": neuron.b,
        "c": neuron.c,
    }
    described["batch_normalization"] = None if norm is None else {"epsilon": norm.epsilon}
    return described


def _describe_state(state: LayerState) -> dict[str, Any]:
    offset, clip = state.offset, state.clip_rect
    if type(state.padding) is not Padding:
        raise TypeError(
            "padding: expected a Padding in a layer to serialise, got "
            f"{_checks.describe(state.padding)}"
        )
    return {
        "offset": [offset.x, offset.y, offset.z],
        "clip_rect": None if clip is None else {"origin": clip.origin, "size": clip.size},
        "edge_mode": int(state.edge_mode),
        "edge_constant": state.edge_constant,
        "padding": {"method": int(state.padding.method)}
        if state.padding.amounts is None
        else {"explicit": state.padding.amounts},
        "destination_feature_channel_offset": state.destination_feature_channel_offset,
        "source_feature_channel_offset": state.source_feature_channel_offset,
        "source_feature_channel_max_count": state.source_feature_channel_max_count,
    }


# ---- Reading ------------------------------------------------------------------------------------


def parse(data: object) -> list[LayerRecord]:
    """The layers of a serialised form, at least one."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data: expected bytes, got {_checks.describe(data)}")
    with _malformed("data"):
        archive = _archive_of_bytes(bytes(data))
        return [_read_layer(archive, described) for described in _layers(archive)]


def read_layer(path: str, prefix: str) -> LayerRecord:
    """One layer of a file."""
    # Read and not mapped into memory: a file that is cut short meanwhile would end the process.
    data = Path(path).read_bytes()
    with _malformed(path):
        archive = _archive_of_bytes(data)
        for described in _layers(archive):
            if isinstance(described, dict) and described.get("prefix") == prefix:
                return _read_layer(archive, described)
        raise ValueError(f"no layer with the prefix {prefix!r}")


@contextmanager
def _malformed(what: str) -> Iterator[None]:
    """Turns whatever reading hostile bytes raises into ValueError."""
    try:
        yield
    except (MemoryError, OSError):
        raise
    except Exception as error:
        raise ValueError(f"{what}: expected a serialised layer of binconv, got {error}") from error


def _archive_of_bytes(data: bytes) -> _Archive:
    tensors = dict(safetensors.deserialize(data))  # type: ignore[no-untyped-call]
    # deserialize has checked the header, but does not return its metadata.
    header = _json(data[8 : 8 + int.from_bytes(data[:8], "little")])

    def tensor(name: str) -> NDArray[Any]:
        entry = tensors[name]
        dtype = {"U32": "<u4", "F32": "<f4", "F64": "<f8"}.get(entry["dtype"])
        if dtype is None:
            raise ValueError(f"tensor {name} is of type {entry['dtype']}")
        array: NDArray[Any] = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    return _Archive(header.get("__metadata__", {}), frozenset(tensors), tensor)


def _layers(archive: _Archive) -> list[Any]:
    """The JSON of each layer."""
    for key, expected in (("format", _FORMAT), ("version", _VERSION)):
        if archive.metadata.get(key) != expected:
            raise ValueError(f"{key} {archive.metadata.get(key)!r} instead of {expected!r}")
    layers = _json(archive.metadata["layers"])
    if not isinstance(layers, list) or not layers:
        raise ValueError("no list of layers")
    return layers


def _json(text: str | bytes) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} in JSON")

    return json.loads(text, parse_constant=refuse)


def _take(described: object, name: str, *keys: str) -> list[Any]:
    """The values of an object that has these keys and no others."""
    if not isinstance(described, dict) or described.keys() != set(keys):
        raise ValueError(f"{name}: not an object of {', '.join(keys)}")
    return [described[key] for key in keys]


def _list_of(length: int, described: object, name: str) -> list[Any]:
    if not isinstance(described, list) or len(described) != length:
        raise ValueError(f"{name}: not a list of {length}")
    return described


def _read_layer(archive: _Archive, described: object) -> LayerRecord:
    prefix, kind, label, descriptor_json, type_, flags, scale_value, state = _take(
        described,
        "layer",
        "prefix",
        "kind",
        "label",
        "descriptor",
        "type",
        "flags",
        "scale_value",
        "state",
    )
    if not isinstance(prefix, str):
        raise ValueError("prefix: not a string")
    descriptor = _read_descriptor(archive, prefix, descriptor_json)
    weights = archive.array(f"{prefix}weights", descriptor.weights_shape, np.uint32)
    if weights is None:
        raise ValueError(f"no tensor {prefix}weights")
    inputs, outputs = descriptor.input_feature_channels, descriptor.output_feature_channels
    arrays = {
        name: archive.array(f"{prefix}{name}", (outputs if is_output else inputs,), np.float32)
        for name, is_output in TERMS
    }
    bias = archive.array(f"{prefix}bias_terms", (outputs,), np.float32)
    parameters = LayerParameters(
        descriptor=descriptor,
        weights=_arrays.freeze(np.array(weights, order="C")),
        bias_terms=_arrays.optional_terms(bias, "bias_terms", outputs),
        scale_value=scale_value,
        type=type_,
        flags=flags,
        is_fully_connected=_KINDS[kind],
        **arrays,
    )
    return LayerRecord(prefix, _checks.text(label, "label"), parameters, _read_state(state))


def _read_descriptor(archive: _Archive, prefix: str, described: object) -> ConvolutionDescriptor:
    if not isinstance(described, dict):
        raise ValueError("descriptor: not an object")
    kind = _DESCRIPTORS[described["class"]]
    names = [item.name for item in fields(kind)]
    values = dict(zip(names, _take(described, "descriptor", *names, "class"), strict=False))
    outputs = (_checks.positive(values["output_feature_channels"], "output_feature_channels"),)
    values["neuron"] = _read_neuron(archive, prefix, outputs, values["neuron"])
    norm = values["batch_normalization"]
    if norm is not None:
        [epsilon] = _take(norm, "batch_normalization", "epsilon")
        arrays: dict[str, Any] = {
            name: archive.array(
                f"{prefix}batch_normalization.{name}", outputs, np.float64, np.float32
            )
            for name in _NORM_ARRAYS
        }
        values["batch_normalization"] = BatchNormalization(**arrays, epsilon=epsilon)
    return kind(**values)


def _read_neuron(
    archive: _Archive, prefix: str, shape: tuple[int], described: object
) -> NeuronDescriptor:
    type_, a, b, c = _take(described, "neuron", "type", "a", "b", "c")
    if type_ == NeuronType.PRELU:
        a = archive.array(f"{prefix}neuron_a", shape, np.float32)
    return NeuronDescriptor(type_, a, b, c)


def _read_state(described: object) -> LayerState:
    names = [item.name for item in fields(LayerState)]
    values = dict(zip(names, _take(described, "state", *names), strict=True))
    values["offset"] = Offset(*_list_of(3, values["offset"], "offset"))
    if values["clip_rect"] is not None:
        origin, size = _take(values["clip_rect"], "clip_rect", "origin", "size")
        values["clip_rect"] = Region(origin, size)
    values["padding"] = _read_padding(values["padding"])
    return LayerState(**values)


def _read_padding(described: object) -> PaddingPolicy:
    if isinstance(described, dict) and "explicit" in described:
        [amounts] = _take(described, "padding", "explicit")
        return Padding.explicit(*_list_of(4, amounts, "padding: explicit"))
    [method] = _take(described, "padding", "method")
    return Padding(method)
