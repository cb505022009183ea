"""Grad-CAM: the image regions that a classifier relies on."""

from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F


def gradcam(network: nn.Module, images: Tensor, layer: str, logit: int) -> Tensor:
    """Class activation maps of Selvaraju et al., "Grad-CAM", ICCV 2017, equations 1 and 2.

    The channels of a layer are weighted by the mean of the logit's gradient over each map and added up; negative values
    speak against the class and become 0. Also works with gradients disabled and for frozen networks, whose own
    gradients are not changed.

    Args:
        network: classifier in evaluation mode, images [N, C, H, W] to logits [N, K].
        images: float [N, C, H, W].
        layer: dotted name of a module of the network that gives maps [N, C', H', W']; see :func:`cam_layer`.
        logit: index of the logit.

    Returns:
        [N, 1, H, W] in [0, 1], upsampled bilinearly and divided by each image's maximum; 0 everywhere if nothing speaks
        for the class.

    Raises:
        ValueError: if the layer's output is not a feature map.
    """
    found: list[Tensor] = []

    def begin_here(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        """Cut the graph: nothing before the layer needs gradients."""
        found.append(output.detach().requires_grad_())
        return found[0].clone()  # later layers may change it in place

    handle = network.get_submodule(layer).register_forward_hook(begin_here)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            # Copies, since weights created in inference mode can never be part of a graph.
            state = chain(network.named_parameters(), network.named_buffers())
            logits = functional_call(network, {name: t.detach().clone() for name, t in state}, (images.clone(),))
            maps = found[0]
            if maps.ndim != 4:
                raise ValueError(f"the layer {layer!r} gives {tuple(maps.shape)}, which are no maps")
            (gradient,) = torch.autograd.grad(logits[:, logit].sum(), maps)
    finally:
        handle.remove()
    cam = (gradient.mean((2, 3), keepdim=True) * maps.detach()).sum(1, keepdim=True).relu()
    cam = F.interpolate(cam, size=images.shape[2:], mode="bilinear", align_corners=False)
    largest = cam.amax((2, 3), keepdim=True)
    return cam / torch.where(largest > 0, largest, 1)


@torch.no_grad()
def cam_layer(network: nn.Module, images: Tensor, least: int = 8) -> str:
    """The last layer whose feature maps are at least 8x8: late enough for semantics, early enough for location.

    Args:
        network: convolutional network in evaluation mode.
        images: any valid input images, float [N, C, H, W].
        least: minimum height and width of the maps.

    Returns:
        Dotted name of the layer.

    Raises:
        ValueError: if all maps are smaller.
    """
    names: list[str] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) >= least:
                names.append(name)

        return hook

    handles = [m.register_forward_hook(note(name)) for name, m in network.named_modules() if not any(m.children())]
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    if not names:
        raise ValueError(f"no layer of {type(network).__name__} gives maps of {least}x{least} or more")
    return names[-1]
