"""Evaluation of the latent vectors of the two-step method."""

from itertools import combinations

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from xdomain.callbacks.evaluation import DrawnEvaluation
from xdomain.callbacks.reading import has_training_part, limited, part_of, pieces, read, share, spread
from xdomain.data.base import ImageData, Split
from xdomain.errors import UserError, refuse
from xdomain.methods import Method, TwoStep
from xdomain.metrics.counterfactual import CounterfactualError
from xdomain.metrics.probes import ROWS, probe_balanced_accuracy


class LatentScores(DrawnEvaluation):
    """How well E inverts G, and whether z tells the domains apart.

    ========================  ======================================================================================
    ``latent_error/DOMAIN``   mean square of E(G(z, y)) - z over fresh z from N(0, 1), where y is the domain; an
                              encoder that always says 0 has 1
    ``psnr/DOMAIN``,          between real images x of the domain and G(E(x), y); see
    ``ssim/DOMAIN``           :class:`xdomain.metrics.CounterfactualError`
    ``latent_square/DOMAIN``  mean square of E(x) over real images x; 1 if they are as frequent as drawn ones
    ``probe/latent``          balanced accuracy of a linear probe that reads the domain from E(x); the aim is 0.5.
                              The mean over all pairs of domains; only in the test
    ========================  ======================================================================================

    In the test ``psnr`` and ``ssim`` also stand with ``_random``, between x and another image of the domain.

    Args:
        count: images, and vectors z, per domain in the test.
        val_count: the same in a validation.
        seed: seed of z.
    """

    def __init__(self, count: int = 500, val_count: int = 200, seed: int = 0) -> None:
        for name, value in (("count", count), ("val_count", val_count)):
            if value < 2:
                refuse(self, name, value, "give a number of at least 2.")
        self.count, self.val_count, self.seed = count, val_count, seed

    def check(self, module: Method, split: Split) -> None:
        if not isinstance(module, TwoStep):
            raise UserError(f"LatentScores is for TwoStep, not for {type(module).__name__}: remove it.")
        self.probing = split == "val" or has_training_part(module.data, "probe/latent of LatentScores")

    def measure(self, trainer: pl.Trainer, module: Method) -> dict[str, Tensor]:
        assert isinstance(module, TwoStep)
        values: dict[str, Tensor] = {}
        for domain in module.domains:
            values |= self._measured(trainer, module, domain)
        if trainer.testing and self.probing:
            values["probe/latent"] = self._probe(trainer, module)
        return {name: value.float() for name, value in values.items()}

    def _measured(self, trainer: pl.Trainer, module: TwoStep, domain: str) -> dict[str, Tensor]:
        data, size = module.data.data(module.data.role_of(domain), part_of(trainer)), module.data.eval_batch_size
        count = limited(trainer, self.count if trainer.testing else self.val_count, size)
        error, square = MeanMetric().to(module.device), MeanMetric().to(module.device)
        again, other = CounterfactualError().to(module.device), CounterfactualError().to(module.device)
        generator = torch.Generator().manual_seed(self.seed)
        z = torch.randn(count, module.latent, generator=generator)[share(trainer, count)]
        for piece in torch.split(z, size):
            images = module.draw(piece.to(module.device), domain)
            error.update((module.latents(images, domain) - piece.to(module.device)).square())
        rows = spread(len(data), count)
        for mine in pieces(share(trainer, len(rows)), size):
            x = read(data, rows[mine], module)
            found = module.latents(x, domain)
            square.update(found.square())
            again.update(module.draw(found, domain).float(), x)
            other.update(read(data, np.roll(rows, 1)[mine], module), x)
        reconstructed, random = again.compute(), other.compute()
        values = {f"latent_error/{domain}": error.compute(), f"latent_square/{domain}": square.compute()}
        values |= {f"{name}/{domain}": reconstructed[name] for name in ("psnr", "ssim")}
        if trainer.testing and len(rows) > 1:
            values |= {f"{name}_random/{domain}": random[name] for name in ("psnr", "ssim")}
        return values

    def _probe(self, trainer: pl.Trainer, module: TwoStep) -> Tensor:
        """The mean over pairs of domains; the same on every process."""
        data = module.data
        splits: tuple[Split, ...] = ("train", "test")
        codes = {
            (domain, split): self._codes(trainer, module, domain, data.data(data.role_of(domain), split))
            for domain in module.domains
            for split in splits
        }
        scores = []
        for pair in combinations(module.domains, 2):
            fitted, tested = ([codes[domain, split] for domain in pair] for split in ("train", "test"))
            truth = [torch.arange(2).repeat_interleave(torch.tensor([*map(len, x)])) for x in (fitted, tested)]
            score = probe_balanced_accuracy(torch.cat(fitted), truth[0], torch.cat(tested), truth[1], seed=self.seed)
            scores.append(score)
        return torch.stack(scores).mean()

    def _codes(self, trainer: pl.Trainer, module: TwoStep, domain: str, data: ImageData) -> Tensor:
        size = module.data.eval_batch_size
        rows = spread(len(data), min(ROWS // 2, 2 * self.count, limited(trainer, len(data), size)))
        return torch.cat(
            [module.latents(read(data, piece, module), domain).float().cpu() for piece in pieces(rows, size)]
        )
