"""Stacks of small convolutions on patches of an image or clip: generators and discriminators of pyramids."""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.networks.spectral import spectral_norm

Norm = Literal["batch", "instance", "none"]


SLOW = 20480


class Conv3d(nn.Conv3d):
    """A 3D convolution that runs as one 2D convolution if that is faster; equal to :class:`torch.nn.Conv3d`.

    On a CPU torch hands a single float32 clip to oneDNN only if its channels x frames x rows are more than ``SLOW``
    (``use_mkldnn`` in aten/src/ATen/native/Convolution.cpp), and uses its own kernel for smaller ones. Stacking the
    temporal taps in the channels and treating time as the batch is three to eight times faster than that kernel, at any
    width. It is slower than oneDNN's 3D convolution, which is used in all other cases. Measured by
    ``benchmarks/conv3d.py``.
    """

    def forward(self, x: Tensor) -> Tensor:
        plain = {*self.stride, *self.dilation} == {1} and self.groups == 1
        if not plain or self.padding_mode not in ("zeros", "replicate") or not _is_slow(x):
            return super().forward(x)
        time, high, wide = (int(p) for p in self.padding)
        if self.padding_mode == "replicate":
            x = F.pad(x, (wide, wide, high, high, time, time), mode="replicate")
            time = high = wide = 0
        frames = F.pad(x[0].transpose(0, 1), (0, 0, 0, 0, 0, 0, time, time))  # [T, C, H, W]
        taps = self.kernel_size[0]
        count = len(frames) - taps + 1
        stacked = torch.cat([frames[k : k + count] for k in range(taps)], 1)
        weight = self.weight.transpose(1, 2).flatten(1, 2)
        return F.conv2d(stacked, weight, self.bias, padding=(high, wide)).transpose(0, 1)[None]


def _is_slow(x: Tensor) -> bool:
    """Whether torch would convolve clips [N, C, T, H, W] without oneDNN."""
    full = x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
    return x.device.type == "cpu" and full and len(x) == 1 and x[0, ..., 0].numel() <= SLOW


def conv(dims: int, inputs: int, outputs: int, padding: int = 0, kernel: int = 3) -> nn.Module:
    """A convolution over images (``dims`` 2) or clips (3)."""
    return (nn.Conv2d if dims == 2 else Conv3d)(inputs, outputs, kernel, padding=padding)


def patch_block(
    inputs: int,
    outputs: int,
    padding: int,
    norm: Norm,
    slope: float,
    dims: int = 2,
    spectral: bool = False,
) -> nn.Sequential:
    """Convolution with kernel 3, normalisation, leaky ReLU.

    A method that trains on single images with BatchNorm in training mode normalises every image separately. This is
    ``instance`` here, which is also correct for larger batches.
    """
    convolution = conv(dims, inputs, outputs, padding)
    layers: list[nn.Module] = [spectral_norm(convolution) if spectral else convolution]
    if norm != "none":
        kinds = {"batch": (nn.BatchNorm2d, nn.BatchNorm3d), "instance": (nn.InstanceNorm2d, nn.InstanceNorm3d)}
        layers.append(kinds[norm][dims - 2](outputs, affine=True))
    return nn.Sequential(*layers, nn.LeakyReLU(slope))


def patch_stack(
    inputs: int,
    width: int,
    outputs: int,
    layers: int = 5,
    padding: int = 0,
    norm: Norm = "batch",
    slope: float = 0.2,
    dims: int = 2,
    spectral: bool = False,
) -> nn.Sequential:
    """``layers`` convolutions with kernel 3, all but the last with normalisation and leaky ReLU.

    Args:
        inputs: channels of the input.
        width: channels of the hidden layers.
        outputs: channels of the output.
        layers: number of convolutions; the receptive field is ``2 layers + 1`` pixels.
        padding: padding of each convolution in pixels; with 0 an image loses ``layers`` pixels at every side.
        norm: ``batch``, ``instance`` or ``none``; see :func:`patch_block`.
        slope: negative slope of the leaky ReLU.
        dims: 2 for images [N, C, H, W], 3 for clips [N, C, T, H, W].
        spectral: spectral normalisation of all but the last convolution.
    """
    widths = [inputs, *[width] * (layers - 1)]
    blocks = [patch_block(i, o, padding, norm, slope, dims, spectral) for i, o in pairwise(widths)]
    return nn.Sequential(*blocks, conv(dims, widths[-1], outputs, padding))


def pad_zeros(images: Tensor, pixels: int) -> Tensor:
    """Pad images [N, C, H, W] or clips [N, C, T, H, W] with zeros at every side, also in time."""
    return F.pad(images, (pixels, pixels) * (images.ndim - 2))


class PatchGenerator(nn.Module):
    """The generator of a SinGAN scale: adds a residual to the previous scale's image (Shaham et al. 2019, (3)).

    Args:
        width: channels of the hidden layers.
        layers: number of convolutions.
        norm: see :func:`patch_block`.
        dims: 2 for images, 3 for clips.
        channels: 3 for RGB, 1 for grey.
    """

    def __init__(self, width: int, layers: int = 5, norm: Norm = "batch", dims: int = 2, channels: int = 3) -> None:
        super().__init__()
        self.margin = layers
        self.body = patch_stack(channels, width, channels, layers, norm=norm, dims=dims)

    def forward(self, noise: Tensor, previous: Tensor) -> Tensor:
        """An image from noise and the upscaled image of the previous scale, both [N, channels, (T,) H, W]."""
        y: Tensor = self.body(pad_zeros(noise + previous, self.margin))
        return y.tanh() + previous


class PatchTranslator(nn.Module):
    """The generator of a scale of structural analogy (Benaim et al. 2020), with zero padding in every layer.

    Args:
        width: channels of the hidden layers.
        layers: number of convolutions.
        norm: see :func:`patch_block`.
        residual: add the base to the output; otherwise the output is the whole image.
    """

    def __init__(self, width: int, layers: int = 5, norm: Norm = "instance", residual: bool = True) -> None:
        super().__init__()
        self.residual = residual
        self.body = patch_stack(3, width, 3, layers, padding=1, norm=norm)

    def forward(self, x: Tensor, base: Tensor) -> Tensor:
        """An image from ``x``, an image with or without noise, and its ``base``, both [N, 3, H, W]."""
        y: Tensor = self.body(x).tanh()
        return y + base if self.residual else y


def init_normal(network: nn.Module) -> None:
    """Weights of convolutions from N(0, 0.02), of norms from N(1, 0.02), biases 0 (Radford et al. 2016).

    The biases of convolutions keep torch's initialisation, as in SinGAN's code.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm2d, nn.InstanceNorm3d)):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


def warm_start(network: nn.Module, previous: nn.Module) -> bool:
    """Copy the weights of the previous scale's network if the shapes match; returns whether they do."""
    ours, theirs = network.state_dict(), previous.state_dict()
    if [v.shape for v in ours.values()] != [v.shape for v in theirs.values()]:
        return False
    network.load_state_dict(theirs)
    return True
