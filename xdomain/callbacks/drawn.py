"""Evaluation of images that a class-conditional generator draws from noise."""

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from xdomain.callbacks.evaluation import DrawnEvaluation, build_features, fetch_features
from xdomain.callbacks.reading import limited, part_of, read, share, spread
from xdomain.data.base import Split
from xdomain.errors import UserError, refuse
from xdomain.features import Extractor
from xdomain.methods import Method, TwoStep
from xdomain.metrics.distribution import KID
from xdomain.metrics.nearest import NearestNeighbourAccuracy

ROWS = ("drawn", "training", "blurred")


class DrawnQuality(DrawnEvaluation):
    """How near the images that G draws come to images that it has never seen, and how near to those that it has.

    ===========================  ===================================================================================
    ``kid_drawn@F``              KID between drawn images, as many of every domain, and those of the part that is
                                 measured; F is the feature network
    ``kid_training@F``           the same of the training images; what a generator has that knows them by heart
    ``kid_blurred@F``            the same of images of the measured part itself, blurred
    ``nearer_to_training``       share of drawn images whose nearest neighbour (pixels) among the training images and
                                 as many others is one of the training images; 0.5 if none is learned by heart
    ===========================  ===================================================================================

    Args:
        features: the feature network F; see :func:`xdomain.features.build_extractor`.
        count: images to draw, and largest number of real ones, per domain in the test.
        val_count: the same in a validation.
        seed: seed of the vectors z.
    """

    def __init__(self, features: str = "random-conv", count: int = 500, val_count: int = 200, seed: int = 0) -> None:
        for name, value in (("count", count), ("val_count", val_count)):
            if value < 2:
                refuse(self, name, value, "give a number of at least 2.")
        self.features, self.count, self.val_count, self.seed = features, count, val_count, seed
        self._extractor: Extractor | None = None

    def check(self, module: Method, split: Split) -> None:
        if not isinstance(module, TwoStep):
            raise UserError(f"DrawnQuality is for TwoStep, not for {type(module).__name__}: remove it.")
        self._extractor = self._extractor or build_features(self.features)

    def measure(self, trainer: pl.Trainer, module: Method) -> dict[str, Tensor]:
        assert isinstance(module, TwoStep)
        extractor = fetch_features(self._extractor or build_features(self.features), trainer, module)
        kid = {row: KID(extractor).to(module.device) for row in ROWS}
        nearest = NearestNeighbourAccuracy().to(module.device)
        for number, domain in enumerate(module.domains):
            real, few = self._real(trainer, module, domain, part_of(trainer))
            seen, known = self._real(trainer, module, domain, "train")
            drawn = self._drawn(trainer, module, domain, number)
            for row, images in zip(ROWS, (drawn, seen, gaussian_blur(real, [5, 5], [1.5, 1.5])), strict=True):
                kid[row].update(real, real=True)
                kid[row].update(images, real=False)
            few = min(few, known)
            for label, part in enumerate((part_of(trainer), "train")):
                images, _ = self._real(trainer, module, domain, part, few)
                nearest.update(images, torch.full((len(images),), label, device=module.device), gallery=True)
            nearest.update(drawn, torch.ones(len(drawn), dtype=torch.int64, device=module.device), gallery=False)
        values = {f"kid_{row}@{extractor.name}": metric.compute()[0].float() for row, metric in kid.items()}
        return values | {"nearer_to_training": nearest.compute()}

    def _limit(self, trainer: pl.Trainer, module: Method) -> int:
        return limited(trainer, self.count if trainer.testing else self.val_count, module.data.eval_batch_size)

    def _real(
        self, trainer: pl.Trainer, module: Method, domain: str, part: Split, limit: int | None = None
    ) -> tuple[Tensor, int]:
        """This process's images of a part of the data, spread over it, and how many all processes have."""
        data = module.data.data(module.data.role_of(domain), part)
        rows = spread(len(data), limit or self._limit(trainer, module))
        return read(data, rows[share(trainer, len(rows))], module), len(rows)

    def _drawn(self, trainer: pl.Trainer, module: TwoStep, domain: str, number: int) -> Tensor:
        """This process's drawn images of a domain, float [N, C, H, W] in [-1, 1]."""
        generator, count = torch.Generator().manual_seed(self.seed + number), self._limit(trainer, module)
        z = torch.randn(count, module.latent, generator=generator)[share(trainer, count)].to(module.device)
        return torch.cat([module.draw(part, domain).float() for part in torch.split(z, module.data.eval_batch_size)])
