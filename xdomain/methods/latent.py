"""What the methods share that draw images from latent vectors and find the vectors of images afterwards."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.errors import refuse
from xdomain.methods.base import Method


class LatentMethod(Method):
    """Base class of methods whose generator is trained first, and inverted by encoders that see it frozen.

    Attributes:
        G: the generator.
        latent: length of its latent vectors, drawn from N(0, 1).
        average: the average of G's weights and running statistics over its training, or None.
    """

    G: nn.Module
    latent: int
    average: nn.Module | None

    def build_average(self, ema: float | None) -> None:
        """Let :attr:`average` follow G with this decay, or None; G must be there.

        Raises:
            SettingError: for a decay below 0, or of 1 and above.
        """
        if ema is not None and not 0 <= ema < 1:
            refuse(self, "ema", ema, "give a decay of at least 0 and below 1, or null for none.")
        self.ema = ema
        self.average = copy.deepcopy(self.G).requires_grad_(False) if ema is not None else None

    def on_train_start(self) -> None:
        """Let every rank draw random numbers of its own."""
        self.separate_noise()

    def noise(self, count: int) -> Tensor:
        """Latent vectors z [N, latent] from N(0, 1)."""
        return torch.randn(count, self.latent, device=self.device)

    def invert(self, name: str, E: nn.Module, y: Tensor) -> None:
        """One batch in which E learns, by the named optimiser, the z of images that G draws under conditions y."""
        z = self.noise(len(y))
        with torch.no_grad(), self.frozen() as G:
            x = G(z, y)
        self.log(f"l_{name}", self.step(name, lambda: F.mse_loss(E(x), z)), prog_bar=True)

    @torch.no_grad()
    def follow(self) -> None:
        """Move the average of G by one batch."""
        if self.average is None:
            return
        assert self.ema is not None
        for mean, value in zip(self.average.state_dict().values(), self.G.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - self.ema)
            else:
                mean.copy_(value)

    @contextmanager
    def frozen(self) -> Iterator[nn.Module]:
        """The generator that is inverted and that draws translations, in evaluation mode."""
        G = self.G if self.average is None else self.average
        training = G.training
        G.eval()
        try:
            yield G
        finally:
            G.train(training)
