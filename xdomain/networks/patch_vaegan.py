"""Networks of the patch VAE-GAN: a fully convolutional encoder, and the levels after the decoder."""

import torch
from torch import Tensor, nn

from xdomain.networks.patches import conv, patch_block, patch_stack
from xdomain.networks.pyramid import Size, resize_clip


class PatchEncoder(nn.Module):
    """Mean and log-variance of a latent vector at every position (Gur et al. 2020).

    Args:
        width: channels of the hidden layers.
        latent: dimension of the latent vectors.
        dims: 2 for images, 3 for clips.
    """

    def __init__(self, width: int = 64, latent: int = 128, dims: int = 2) -> None:
        super().__init__()
        blocks = (patch_block(i, width, 1, "none", 0.2, dims, True) for i in (3, width, width))
        self.features = nn.Sequential(*blocks)
        self.mu = conv(dims, width, latent, 1)
        self.logvar = conv(dims, width, latent, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance [N, latent, (T,) H, W] of images or clips [N, 3, (T,) H, W]."""
        features = self.features(x)
        return self.mu(features), self.logvar(features)


class PatchLevel(nn.Module):
    """A level after the decoder: upscales the previous level's output and adds a residual.

    Args:
        width: channels of the hidden layers.
        layers: number of convolutions.
        dims: 2 for images, 3 for clips.
    """

    def __init__(self, width: int = 64, layers: int = 7, dims: int = 2) -> None:
        super().__init__()
        self.body = patch_stack(3, width, 3, layers, 1, "instance", dims=dims)

    def forward(self, below: Tensor, size: Size, noise: Tensor | None = None) -> Tensor:
        """Images of a size.

        Args:
            below: images of the previous level, [N, 3, (T,) H, W].
            size: size of the result.
            noise: noise for the first n images, [n, 3, *size]; the others, if any, get none.
        """
        kept = resize_clip(below, size)
        x = kept if noise is None else torch.cat([kept[: noise.shape[0]] + noise, kept[noise.shape[0] :]])
        y: Tensor = self.body(x)
        return (y + kept).tanh()
