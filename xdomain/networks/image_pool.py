"""The pool of earlier translations that a discriminator learns from."""

import torch
from torch import Tensor, nn


class ImagePool(nn.Module):
    """Gives a discriminator earlier translations as well as the latest (Shrivastava et al., CVPR 2017).

    Until it is full, it stores every image and returns it. Then it returns every image with probability 0.5 as it is,
    unstored, and otherwise a random stored one, in whose place it puts the new one. The images are buffers: a
    checkpoint holds them, and a resumed training draws what the straight one would have drawn. Every process has a pool
    of its own; :class:`xdomain.running.resume.ExactResume` keeps those of all.

    Args:
        size: number of images; 0 returns all as they are.
        shape: channels, height and width of the images.
    """

    images: Tensor
    stored: Tensor

    def __init__(self, size: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("stored", torch.tensor(0))

    def clear(self) -> None:
        """Forget all images."""
        self.images.zero_()
        self.stored.zero_()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] to as many, new or stored, without gradient."""
        size = len(self.images)
        if not size:
            return images.detach()
        chosen = []
        for image in images.detach():
            if self.stored < size:
                self.images[int(self.stored)] = image
                self.stored += 1
                chosen.append(image)
            elif torch.rand(()) < 0.5:
                chosen.append(image)
            else:
                place = int(torch.randint(size, ()))
                chosen.append(self.images[place].clone().to(image))
                self.images[place] = image
        return torch.stack(chosen)
