"""Random transforms of image batches on the device; each image gets its own random parameters.

They use the global random state; the data module sets it as a function of seed, step and rank.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional

from xdomain.batch import to_channels


def _uniform(n: int, low: float, high: float) -> Tensor:
    return torch.rand(n, 1, 1, 1) * (high - low) + low


def _coin(n: int, probability: float) -> Tensor:
    return torch.rand(n, 1, 1, 1) < probability


class Warp(nn.Module):
    """Random affine map and smooth elastic displacement, with border padding.

    Args:
        rotation: largest angle in degrees.
        shear: largest shear.
        scale: smallest and largest factor, drawn separately for height and width.
        shift: largest shift, as a share of half the image size.
        elastic: largest standard deviation of the displacement, as a share of half the image size.
        noise: standard deviation of white noise added at the end.
    """

    def __init__(
        self,
        rotation: float = 12.0,
        shear: float = 0.2,
        scale: tuple[float, float] = (0.85, 1.2),
        shift: float = 0.1,
        elastic: float = 0.1,
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        self.rotation, self.shear, self.scale, self.shift = rotation, shear, scale, shift
        self.elastic, self.noise = elastic, noise

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] to the same shape and range."""
        n, _, height, width = images.shape
        angle = _uniform(n, -self.rotation, self.rotation).view(n) * (math.pi / 180)
        low, high = (math.log(factor) for factor in self.scale)
        x_scale, y_scale = (_uniform(n, low, high).exp().view(n) for _ in range(2))
        shear = _uniform(n, -self.shear, self.shear).view(n)
        matrix = torch.zeros(n, 2, 3)
        matrix[:, 0, 0], matrix[:, 0, 1] = angle.cos() / x_scale, (shear - angle.sin()) / x_scale
        matrix[:, 1, 0], matrix[:, 1, 1] = angle.sin() / y_scale, angle.cos() / y_scale
        matrix[:, :, 2] = (torch.rand(n, 2) * 2 - 1) * self.shift
        grid = F.affine_grid(matrix, [n, 1, height, width], align_corners=False)
        waves = torch.randn(n, 2, 5, 5) * _uniform(n, 0.0, self.elastic)
        grid = grid + F.interpolate(waves, size=(height, width), mode="bicubic").permute(0, 2, 3, 1)
        warped = F.grid_sample(images, grid.to(images.device), padding_mode="border", align_corners=False)
        return warped + self.noise * torch.randn_like(warped) if self.noise else warped


class ResizeCropFlip(nn.Module):
    """The augmentation of pix2pix and CycleGAN: enlarge by 286 / 256, crop at a random position, mirror at random.

    Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, section 6.2.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, S, S] in [-1, 1] to the same shape and range."""
        n, channels, size, _ = images.shape
        large = round(size * 286 / 256)
        enlarged = F.interpolate(images, (large, large), mode="bicubic", align_corners=False).clamp(-1, 1)
        top, left = (torch.randint(large - size + 1, (n, 1)) + torch.arange(size) for _ in range(2))
        mirrored = torch.rand(n, 1) < 0.5
        left = torch.where(mirrored, left.flip(1), left)
        image, channel = torch.arange(n).view(n, 1, 1, 1), torch.arange(channels).view(1, channels, 1, 1)
        index = (image, channel, top.view(n, 1, size, 1), left.view(n, 1, 1, size))
        return enlarged[tuple(part.to(images.device) for part in index)]


class ColourJitter(nn.Module):
    """Changes brightness, contrast, saturation and hue of each image, in this order; torchvision's transform.

    Args:
        brightness: factors are drawn from 1 - brightness to 1 + brightness.
        contrast: likewise.
        saturation: likewise.
        hue: largest shift, as a share of the circle of hues.
    """

    def __init__(
        self, brightness: float = 0.5, contrast: float = 0.5, saturation: float = 0.5, hue: float = 0.2
    ) -> None:
        super().__init__()
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue

    def forward(self, images: Tensor) -> Tensor:
        """RGB images [N, 3, H, W] in [-1, 1] to the same shape and range."""
        return torch.stack([self._jittered((image + 1) / 2) for image in images]) * 2 - 1

    def _jittered(self, image: Tensor) -> Tensor:
        brightness, contrast, saturation, hue = (2 * torch.rand(4) - 1).tolist()
        image = functional.adjust_brightness(image, 1 + self.brightness * brightness)
        image = functional.adjust_contrast(image, 1 + self.contrast * contrast)
        image = functional.adjust_saturation(image, 1 + self.saturation * saturation)
        jittered: Tensor = functional.adjust_hue(image, self.hue * hue)
        return jittered


class DigitShapes(nn.Module):
    """Reduces a street digit to its shape, as any pen could have drawn it.

    After a :class:`Warp`, strokes are thickened or thinned, colours become grey or sharp black and white, the
    resolution drops, light and dark are swapped, contrast and brightness vary. A classifier trained on this reads
    handwriting that it has never seen. Whether an operation is applied is drawn for an eighth of the batch at a time.

    Args:
        warp: the geometric part.
        thickness: probability of a stroke that is one pixel thicker or thinner on each side.
        grey: probability of removing the colours.
        binary: probability of a flat background and full contrast.
        coarse: probability of a lower resolution.
        coarse_sizes: smallest and largest side in pixels of the lower resolution.
        invert: probability of swapping light and dark.
    """

    def __init__(
        self,
        warp: Warp | None = None,
        thickness: float = 0.5,
        grey: float = 0.6,
        binary: float = 0.4,
        coarse: float = 0.7,
        coarse_sizes: tuple[int, int] = (6, 18),
        invert: float = 0.5,
    ) -> None:
        super().__init__()
        self.warp = warp or Warp()
        self.thickness, self.grey, self.binary = thickness, grey, binary
        self.coarse, self.coarse_sizes, self.invert = coarse, coarse_sizes, invert

    def forward(self, images: Tensor) -> Tensor:
        """RGB images [N, 3, H, W] in [-1, 1] to the same shape and range."""
        return torch.cat([self._part(part) for part in self.warp(images).chunk(8)])

    def _part(self, x: Tensor) -> Tensor:
        n, size, device = len(x), x.shape[-2:], x.device
        if torch.rand(()) < self.thickness:
            x = F.max_pool2d(x, 3, 1, 1) if torch.rand(()) < 0.5 else -F.max_pool2d(-x, 3, 1, 1)
        luma = to_channels(x, 1)
        x = torch.where(_coin(n, self.grey).to(device), luma.expand_as(x), x)
        dark, light = luma.amin((1, 2, 3), keepdim=True), luma.amax((1, 2, 3), keepdim=True)
        level = dark + (light - dark) * _uniform(n, 0.35, 0.65).to(device)
        steepness = _uniform(n, 3.0, 12.0).to(device) / (light - dark + 0.05)
        x = torch.where(_coin(n, self.binary).to(device), torch.tanh(steepness * (luma - level)).expand_as(x), x)
        if torch.rand(()) < self.coarse:
            side = int(torch.randint(self.coarse_sizes[0], self.coarse_sizes[1] + 1, ()))
            mode = "bilinear" if torch.rand(()) < 0.5 else "bicubic"
            x = F.interpolate(F.interpolate(x, size=(side, side), mode="area"), size=size, mode=mode)
        x = torch.where(_coin(n, self.invert).to(device), -x, x)
        return (x * _uniform(n, 0.6, 1.3).to(device) + _uniform(n, -0.3, 0.3).to(device)).clamp(-1, 1)


class FaceLooks(nn.Module):
    """Changes camera, lighting and drawing style of a face but not its identity.

    After a :class:`Warp`, which must keep proportions, lighting and colours vary a little, the resolution drops,
    colours become flat and edges dark as in a drawing, noise is added. An embedder trained on this works on drawings
    that it has never seen. Whether an operation is applied is drawn for an eighth of the batch at a time.

    Args:
        warp: the geometric part.
        tint: largest logarithm of the factor of a colour channel.
        coarse: probability of a lower resolution.
        coarse_sizes: smallest and largest side in pixels of the lower resolution.
        flat: probability of flat colours.
        outline: probability of dark edges.
        noise: largest standard deviation of the noise.
    """

    def __init__(
        self,
        warp: Warp | None = None,
        tint: float = 0.05,
        coarse: float = 0.2,
        coarse_sizes: tuple[int, int] = (32, 48),
        flat: float = 0.4,
        outline: float = 0.4,
        noise: float = 0.05,
    ) -> None:
        super().__init__()
        self.warp = warp or Warp(rotation=4.0, shear=0.0, scale=(0.98, 1.02), shift=0.05, elastic=0.0)
        self.tint, self.coarse, self.coarse_sizes = tint, coarse, coarse_sizes
        self.flat, self.outline, self.noise = flat, outline, noise

    def forward(self, images: Tensor) -> Tensor:
        """RGB images [N, 3, H, W] in [-1, 1] to the same shape and range."""
        return torch.cat([self._part(part) for part in self.warp(images).chunk(8)])

    def _part(self, x: Tensor) -> Tensor:
        n, size, device = len(x), x.shape[-2:], x.device
        if torch.rand(()) < self.flat:  # levels of a smoothed image, in steps of a quarter of a value
            smooth = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
            x = (smooth * 4).round() / 4
        if torch.rand(()) < self.outline:
            luma = F.pad(to_channels(x, 1), (0, 1, 0, 1), mode="replicate")
            across, down = luma[..., :-1, 1:] - luma[..., :-1, :-1], luma[..., 1:, :-1] - luma[..., :-1, :-1]
            x = x - _uniform(n, 0.3, 1.0).to(device) * (across.abs() + down.abs())
        if torch.rand(()) < self.coarse:
            side = int(torch.randint(self.coarse_sizes[0], self.coarse_sizes[1] + 1, ()))
            x = F.interpolate(F.interpolate(x, size=(side, side), mode="area"), size=size, mode="bilinear")
        luma = to_channels(x, 1)
        x = luma + (x - luma) * _uniform(n, 0.8, 1.2).to(device)
        tints = ((torch.rand(n, 3, 1, 1) * 2 - 1) * self.tint).exp()
        x = (x + 1) * (tints * _uniform(n, 0.85, 1.15)).to(device) - 1 + _uniform(n, -0.1, 0.1).to(device)
        return (x + torch.randn_like(x) * _uniform(n, 0.0, self.noise).to(device)).clamp(-1, 1)
