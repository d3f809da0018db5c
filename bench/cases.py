"""The layers that are measured. Sizes are those of ResNet's stages, and one dense layer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerCase:
    """A square layer with stride 1 that keeps the size of its image (height × width × channels)."""

    name: str
    size: int
    channels: int
    kernel: int
    """Kernel width and height in pixels."""
    times_faster: float = 0.0
    """How many times float32 PyTorch's speed is asked for; 0 where nothing is."""

    @property
    def macs(self) -> int:
        """Multiply-adds of one image, counting taps that lie off the image too."""
        return self.size**2 * self.kernel**2 * self.channels**2


LAYERS = [
    LayerCase("3x3-56x56x64", size=56, channels=64, kernel=3, times_faster=5),
    LayerCase("3x3-28x28x128", size=28, channels=128, kernel=3, times_faster=5),
    LayerCase("3x3-14x14x256", size=14, channels=256, kernel=3, times_faster=5),
    LayerCase("3x3-7x7x512", size=7, channels=512, kernel=3, times_faster=5),
    LayerCase("1x1-14x14x256", size=14, channels=256, kernel=1),
    LayerCase("dense-4096", size=1, channels=4096, kernel=1),
]
