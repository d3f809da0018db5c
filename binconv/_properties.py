"""The properties of a layer, those of MPSCNNKernel and MPSCNNBinaryConvolution."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from . import _checks
from ._locks import brief_lock
from ._plan import Snapshot
from .descriptors import ConvolutionDescriptor, NeuronDescriptor
from .enums import BinaryConvolutionFlags, BinaryConvolutionType, EdgeMode
from .geometry import Offset, PaddingPolicy, Region
from .sources import ConvolutionDataSource

# Setting a property is read, change, write: one at a time, so that none is lost.
setting = brief_lock()


class LayerProperties:
    """Properties over a snapshot of the layer, which setters replace.

    Setters raise TypeError for a value of the wrong kind and ValueError for one out of range, and
    then the layer is as it was.
    """

    _snapshot: Snapshot
    _label: str | None
    _data_source: ConvolutionDataSource

    def _set(self, **changes: Any) -> None:
        with setting:
            old = self._snapshot
            self._snapshot = Snapshot(old.parameters, old.layer, replace(old.state, **changes))

    @property
    def _descriptor(self) -> ConvolutionDescriptor:
        return self._snapshot.parameters.descriptor

    # ---- Read and write ---------------------------------------------------------------------

    @property
    def offset(self) -> Offset:
        """Source position of the first pixel that `encode` computes; z is the first source image,
        at least 0.  MPS: offset.
        """
        return self._snapshot.state.offset

    @offset.setter
    def offset(self, value: Offset) -> None:
        self._set(offset=value)

    @property
    def clip_rect(self) -> Region | None:
        """Destination pixels and images that `encode` computes, clipped to the destination; None
        for all of them.  MPS: clipRect.
        """
        return self._snapshot.state.clip_rect

    @clip_rect.setter
    def clip_rect(self, value: Region | None) -> None:
        self._set(clip_rect=value)

    @property
    def edge_mode(self) -> EdgeMode:
        """What taps read outside the source.  MPS: edgeMode."""
        return self._snapshot.state.edge_mode

    @edge_mode.setter
    def edge_mode(self, value: EdgeMode) -> None:
        self._set(edge_mode=value)

    @property
    def edge_constant(self) -> float:
        """Source value outside the source with `EdgeMode.CONSTANT`, finite.  Not in MPS."""
        return self._snapshot.state.edge_constant

    @edge_constant.setter
    def edge_constant(self, value: float) -> None:
        self._set(edge_constant=value)

    @property
    def padding(self) -> PaddingPolicy:
        """What sizes the result of a call: a `Padding`, or an object with a destination method.
        MPS: padding.
        """
        return self._snapshot.state.padding

    @padding.setter
    def padding(self, value: PaddingPolicy) -> None:
        self._set(padding=value)

    @property
    def destination_feature_channel_offset(self) -> int:
        """First destination channel that is written, any integer of at least 0.  MPS:
        destinationFeatureChannelOffset (multiples of 4 there).
        """
        return self._snapshot.state.destination_feature_channel_offset

    @destination_feature_channel_offset.setter
    def destination_feature_channel_offset(self, value: int) -> None:
        self._set(destination_feature_channel_offset=value)

    @property
    def source_feature_channel_offset(self) -> int:
        """First source channel that is read, any integer of at least 0.  Where it or
        `source_feature_channel_max_count` is set, a source may have more channels than the layer
        takes.  MPS: sourceFeatureChannelOffset (multiples of 4 there).
        """
        return self._snapshot.state.source_feature_channel_offset

    @source_feature_channel_offset.setter
    def source_feature_channel_offset(self, value: int) -> None:
        self._set(source_feature_channel_offset=value)

    @property
    def source_feature_channel_max_count(self) -> int | None:
        """Source channels that may be read from the offset on, at least those of the layer; None
        for all there are.  MPS: sourceFeatureChannelMaxCount.
        """
        return self._snapshot.state.source_feature_channel_max_count

    @source_feature_channel_max_count.setter
    def source_feature_channel_max_count(self, value: int | None) -> None:
        self._set(source_feature_channel_max_count=value)

    @property
    def label(self) -> str | None:
        """A name, at first the source's.  MPS: label."""
        return self._label

    @label.setter
    def label(self, value: str | None) -> None:
        self._label = _checks.text(value, "label")

    # ---- Read only --------------------------------------------------------------------------

    @property
    def input_feature_channels(self) -> int:
        """Channels that the layer reads of a source pixel.  MPS: inputFeatureChannels."""
        return self._descriptor.input_feature_channels

    @property
    def output_feature_channels(self) -> int:
        """Channels of an output pixel, before a sub-pixel rearrangement.  MPS:
        outputFeatureChannels.
        """
        return self._descriptor.output_feature_channels

    @property
    def kernel_width(self) -> int:
        """Taps in a row, before dilation.  MPS: kernelWidth."""
        return self._descriptor.kernel_width

    @property
    def kernel_height(self) -> int:
        """Taps in a column, before dilation.  MPS: kernelHeight."""
        return self._descriptor.kernel_height

    @property
    def stride_in_pixels_x(self) -> int:
        """Source columns from one output pixel to the next.  MPS: strideInPixelsX."""
        return self._descriptor.stride_in_pixels_x

    @property
    def stride_in_pixels_y(self) -> int:
        """Source rows from one output pixel to the next.  MPS: strideInPixelsY."""
        return self._descriptor.stride_in_pixels_y

    @property
    def dilation_rate_x(self) -> int:
        """Source columns from one tap to the next.  MPS: dilationRateX."""
        return self._descriptor.dilation_rate_x

    @property
    def dilation_rate_y(self) -> int:
        """Source rows from one tap to the next.  MPS: dilationRateY."""
        return self._descriptor.dilation_rate_y

    @property
    def groups(self) -> int:
        """Groups that channels are divided into.  MPS: groups."""
        return self._descriptor.groups

    @property
    def type(self) -> BinaryConvolutionType:
        """What is binary in the convolution.  MPS: MPSCNNBinaryConvolutionType."""
        return self._snapshot.parameters.type

    @property
    def flags(self) -> BinaryConvolutionFlags:
        """Options.  MPS: MPSCNNBinaryConvolutionFlags."""
        return self._snapshot.parameters.flags

    @property
    def neuron(self) -> NeuronDescriptor:
        """The activation function.  MPS: fusedNeuronDescriptor."""
        return self._descriptor.neuron

    @property
    def is_backwards(self) -> bool:
        """False: the kernel does not run backwards.  MPS: isBackwards."""
        return False

    @property
    def is_state_modified(self) -> bool:
        """False: a run does not change the layer.  MPS: isStateModified."""
        return False

    @property
    def data_source(self) -> ConvolutionDataSource:
        """Where the weights came from; an `ArrayDataSource` of them after unpickling or loading.
        MPS: dataSource.
        """
        return self._data_source
