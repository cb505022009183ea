"""Base classes of the feature networks of metrics for images and videos."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xdomain.batch import to_channels

NOT_ACTIVATED = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Dropout, nn.Linear)


def set_channels(images: Tensor, channels: int) -> Tensor:
    """`xdomain.batch.to_channels` for images [N, C, H, W] and for videos [N, C, T, H, W]."""
    if images.ndim == 4:
        return to_channels(images, channels)
    frames = images.transpose(1, 2)
    changed = to_channels(frames.flatten(0, 1), channels)
    return changed.view(*frames.shape[:2], *changed.shape[1:]).transpose(1, 2)


def check_layers(name: str, layers: Sequence[str], known: Sequence[str]) -> None:
    """Raise a ValueError for a layer that a network does not have."""
    for layer in layers:
        if layer not in known:
            raise ValueError(f"{name} has no layer {layer!r}; it has {', '.join(known)}")


class Extractor(nn.Module):
    """A frozen network that turns images into feature vectors and feature maps.

    It always stays in evaluation mode, and gradients pass through it only in :meth:`perceive` and :meth:`embed`. Images
    are float [N, C, H, W] (videos [N, C, T, H, W] if `dims` is 3) in [-1, 1]; values outside are clamped, grey is
    repeated.

    Attributes:
        name: name in metrics, after the ``@``.
        dim: length of the feature vectors.
        layers: names of the layers that distances use by default.
        dims: 2 for images, 3 for videos.
        channels: number of image channels of the network's input.
        joint: separator between `name` and a layer.
    """

    name: str
    dim: int
    layers: tuple[str, ...]
    dims = 2
    channels = 3
    joint = "/"

    def train(self, mode: bool = True) -> "Extractor":
        """Stay in evaluation mode."""
        return super().train(False)

    def freeze(self) -> None:
        """Called at the end of every constructor."""
        self.requires_grad_(False).eval()

    def fetch(self, strategy: Any, root: Path | None = None) -> None:
        """Load weights that need the trainer's help, if any; see :meth:`xdomain.features.helpers.Helper.fetch`."""

    def at(self, layer: str) -> str:
        """Name of the network with one of its layers."""
        return f"{self.name}{self.joint}{layer}"

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Feature vectors [N, dim] of images."""
        return self.embed(images)

    def embed(self, images: Tensor) -> Tensor:
        """Like :meth:`features`, for losses: gradients pass through it to the images."""
        return self.vectors(self._prepared(images))

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Class logits [N, classes] of images.

        Raises:
            ValueError: if the network is not a classifier.
        """
        return self.scores(self._prepared(images))

    @torch.no_grad()
    def pyramid(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """Feature maps [N, channels, h, w] (videos [N, channels, t, h, w]) of several layers, in the order asked for.

        Raises:
            ValueError: for a layer that the network does not have.
        """
        return self.perceive(images, layers)

    def perceive(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """Like :meth:`pyramid`, for losses: gradients pass through it to the images."""
        return self.activations(self._prepared(images), layers)

    def maps(self, images: Tensor, layer: str) -> Tensor:
        """Feature maps [N, channels, h, w] of one layer."""
        return self.pyramid(images, [layer])[0]

    def onward(self, maps: Tensor, start: str, end: str) -> Tensor:
        """The maps of a later layer that follow from maps [N, channels, h, w] of an earlier one; with gradients.

        Raises:
            ValueError: if the network cannot be run in parts, or the second layer does not come after the first.
        """
        raise ValueError(f"{self.name} cannot be run from one layer to another")

    def forward(self, images: Tensor) -> Tensor:
        """Feature vectors, so that an extractor can be the `feature` of torchmetrics' metrics."""
        return self.features(images)

    def _prepared(self, images: Tensor) -> Tensor:
        if images.ndim != self.dims + 2 or not images.is_floating_point():
            raise ValueError(
                f"{self.name} takes float tensors of {self.dims + 2} dimensions in [-1, 1], "
                f"not {images.dtype} {tuple(images.shape)}"
            )
        return set_channels(images.float().clamp(-1.0, 1.0), self.channels)

    def vectors(self, images: Tensor) -> Tensor:
        """Like :meth:`features`, for prepared images."""
        raise NotImplementedError(f"{type(self).__name__} must implement vectors()")

    def scores(self, images: Tensor) -> Tensor:
        """Like :meth:`logits`, for prepared images."""
        raise ValueError(f"{self.name} is no classifier and has no logits")

    def activations(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """Like :meth:`pyramid`, for prepared images."""
        raise NotImplementedError(f"{type(self).__name__} must implement activations()")


def between(name: str, layers: Sequence[str], start: str, end: str) -> range:
    """Positions of the layers after one up to another one.

    Raises:
        ValueError: for layers that do not exist or are not in this order.
    """
    check_layers(name, [start, end], layers)
    first, last = layers.index(start), layers.index(end)
    if first >= last:
        raise ValueError(f"layer {end!r} of {name} does not come after layer {start!r}")
    return range(first + 1, last + 1)


class _Reached(Exception):
    """All requested maps are computed: the rest of the network need not run."""


class HookedExtractor(Extractor):
    """Base class of extractors around a whole network: maps are the outputs of its submodules, by dotted name.

    Args:
        name: see :class:`Extractor`.
        network: any module that takes prepared images.
        normalise: maps [-1, 1] to the range that the network was trained on.
    """

    def __init__(self, name: str, network: nn.Module, normalise: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.name, self.network, self.normalise = name, network, normalise
        trunk = next((n for n in ("features", "body") if isinstance(getattr(network, n, None), nn.Module)), "")
        skipped = (*NOT_ACTIVATED, nn.Flatten)
        children = network.get_submodule(trunk).named_children()
        self.layers = tuple(f"{trunk}.{n}".lstrip(".") for n, child in children if not isinstance(child, skipped))

    def activations(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        modules = dict(self.network.named_modules())
        check_layers(self.name, layers, [n for n in modules if n])
        found: dict[str, Tensor] = {}

        def remember(layer: str) -> Callable[[nn.Module, Any, Tensor], None]:
            def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
                found[layer] = output.clone()  # the next module may be an in-place ReLU
                if len(found) == len(set(layers)):
                    raise _Reached

            return hook

        handles = [modules[layer].register_forward_hook(remember(layer)) for layer in set(layers)]
        try:
            self.network(self.normalise(images))
        except _Reached:
            pass
        finally:
            for handle in handles:
                handle.remove()
        for layer in layers:
            if layer not in found or found[layer].ndim != 4:
                raise ValueError(f"layer {layer!r} of {self.name} yields no maps [N, C, h, w]")
        return [found[layer] for layer in layers]

    def onward(self, maps: Tensor, start: str, end: str) -> Tensor:
        trunk = start.rpartition(".")[0]
        modules = self.network.get_submodule(trunk)
        if not isinstance(modules, nn.Sequential):
            return super().onward(maps, start, end)
        x = maps.clone()  # the next module may be an in-place ReLU
        children = [f"{trunk}.{name}".lstrip(".") for name, _ in modules.named_children()]
        for i in between(self.name, children, start, end):
            x = modules[i](x)
        return x
