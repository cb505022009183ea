"""DistanceGAN: distances within a domain survive the translation."""

from typing import Any

import torch
from torch import Tensor

from xdomain.batch import to_float
from xdomain.errors import UserError
from xdomain.losses.distance import DistanceStatistics, half_distances, l_distance, pair_distances, statistics
from xdomain.methods.cyclegan import CycleGAN


class DistanceGAN(CycleGAN):
    """DistanceGAN: far images stay far, near ones near; in place of the cycle or beside it.

    Benaim, Wolf, "One-Sided Unsupervised Domain Mapping", NIPS 2017; (n) are its equations. The networks, adversarial
    losses and order of updates are those of :class:`CycleGAN`, without its identity loss, as in the authors' code.

    Distances are mean absolute differences of pixels, counted in deviations from the mean of their domain. Both are
    known from single training images before the first batch; the authors' code has them of means over whole batches,
    whose deviation is smaller by about the root of the batch's size: the losses are multiplied by that root.

    Args:
        pairs: weight of the distances between the images of a batch, (3).
        halves: weight of the distances between upper and lower halves of an image, (5).
        cycle: weight of the cycle consistency loss; 0 leaves it out.
        max_images: training images that the distances' means and deviations are known from.
        options: see :class:`CycleGAN`.
    """

    statistics: Tensor

    def __init__(
        self, pairs: float = 1.0, halves: float = 0.0, cycle: float = 0.0, max_images: int = 900, **options: Any
    ) -> None:
        super().__init__(cycle=cycle, identity=0.0, **options)
        if not pairs and not halves:
            raise UserError("DistanceGAN has neither pairs nor halves: set one of them above 0.")
        self.pairs, self.halves, self.max_images = pairs, halves, max_images
        self.register_buffer("statistics", torch.zeros(2, 2, 2))  # pairs and halves; both domains; mean and deviation

    def on_fit_start(self) -> None:
        """Measure the distances within both domains; they are part of the checkpoint."""
        if self.pairs and self.data.batch_size < 2:
            raise UserError("DistanceGAN compares the images of a batch: give a batch_size of at least 2, or halves.")
        if bool(self.statistics.any()):
            return
        for i, role in enumerate(self.data.roles):
            images = self.data.data(role, "train")
            chosen = list(range(min(len(images), self.max_images)))
            x = to_float(images.__getitems__(chosen).image)
            for kind, distances in enumerate((pair_distances(x), half_distances(x))):
                self.statistics[kind, i] = torch.stack(statistics(distances)).to(self.statistics)

    def further_losses(self, x: Tensor, y: Tensor, fake_x: Tensor, fake_y: Tensor) -> dict[str, Tensor]:
        losses = {}
        for kind, (name, weight, distances) in enumerate(
            (("l_pairs", self.pairs, pair_distances), ("l_halves", self.halves, half_distances))
        ):
            if weight:
                of_x, of_y = (DistanceStatistics(*self.statistics[kind, i]) for i in range(2))
                there = l_distance(distances(x), distances(fake_y), of_x, of_y)
                back = l_distance(distances(y), distances(fake_x), of_y, of_x)
                losses[name] = weight * len(x) ** 0.5 * (there + back)
        return losses
