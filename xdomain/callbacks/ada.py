"""Adaptive discriminator augmentation."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from xdomain.batch import Batch, to_channels
from xdomain.callbacks.networks import named_network
from xdomain.errors import UserError, refuse
from xdomain.networks.adaptive_augment import AdaptiveAugment, Transform

EVERY = 4  # batches between two changes of p


class AdaptiveAugmentation(pl.Callback):
    """Shows discriminators augmented images alone, real and generated, the more often the more they overfit.

    Karras et al., "Training Generative Adversarial Networks with Limited Data", NeurIPS 2020: r = E[sign D(x)] over the
    real images x as D sees them tells how sure it is of them. After every 4 batches p of each discriminator's
    :class:`xdomain.networks.AdaptiveAugment` rises if r lies above ``target``, and falls if it lies below, by as much
    as takes it from 0 to 1 in ``images`` real images. Logs p and r as ``ada_p/D`` and ``ada_r/D``.

    p is part of the checkpoint and equal on all processes. Real images are found by their pixels among those of the
    batch, so that it works in every method whose discriminators see whole images of the data; it is refused where none
    comes by, as where two images are judged together.

    Args:
        networks: discriminators of the method, e.g. ``[D]``.
        transforms: see :class:`xdomain.networks.AdaptiveAugment`.
        images: real images in which p can grow from 0 to 1; a quarter of the training is a good beginning.
        target: r to aim for.
        undecided: score between real and generated: 0 for logits, 0.5 for least squares.
        limit: largest p, below 1: a transform that always comes is learned by the generator.
    """

    def __init__(
        self,
        networks: list[str],
        transforms: Sequence[Transform] | None = None,
        images: int = 500_000,
        target: float = 0.6,
        undecided: float = 0.0,
        limit: float = 0.8,
    ) -> None:
        if not networks:
            refuse(self, "networks", networks, "name the discriminators, e.g. [D].")
        if images < 1:
            refuse(self, "images", images, "give a number of at least 1.")
        if not -1 <= target <= 1:
            refuse(self, "target", target, "give a mean of signs, from -1 to 1.")
        if not 0 < limit < 1:
            refuse(self, "limit", limit, "give a probability above 0 and below 1.")
        self.networks, self.images, self.target = networks, images, target
        self.undecided, self.limit = undecided, limit
        self.augments = {name: AdaptiveAugment(transforms) for name in networks}
        self._counts = {name: torch.zeros(3) for name in networks}  # since the last change of p, see _watch
        self._batches = 0
        self._images: list[Tensor] = []
        self._real: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for name in self.networks:
            network = named_network(self, pl_module, name)
            self.augments[name].to(pl_module.device)
            self._counts[name] = self._counts[name].to(pl_module.device)
            self._hooks.append(network.register_forward_pre_hook(partial(self._augment, name)))
            self._hooks.append(network.register_forward_hook(partial(self._watch, name)))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, *_: Any) -> None:
        self._images = [sample.image for sample in batch.values()]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self._images = []
        self._batches += 1  # an epoch of few images has fewer batches
        if self._batches % EVERY:
            return
        for name, augment in self.augments.items():
            total, seen, calls = trainer.strategy.reduce(self._counts[name], reduce_op="sum")
            self._counts[name] = torch.zeros_like(self._counts[name])
            if calls and not seen:
                kind = type(pl_module).__name__
                raise UserError(
                    f"AdaptiveAugmentation: {name} of {kind} never sees an image of the data alone: name "
                    "discriminators of single images."
                )
            if seen:
                r = total / seen
                augment.p.add_(torch.sign(r - self.target) * seen / self.images).clamp_(0, self.limit)
                pl_module.log_dict({f"ada_p/{name}": augment.p.clone(), f"ada_r/{name}": r})

    def state_dict(self) -> dict[str, Any]:
        p = {name: augment.p.cpu().clone() for name, augment in self.augments.items()}
        counts = {name: counts.cpu() for name, counts in self._counts.items()}
        return {"p": p, "counts": counts, "batches": self._batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._batches = state_dict["batches"]
        for name, augment in self.augments.items():
            augment.p.copy_(state_dict["p"][name])
            self._counts[name] = state_dict["counts"][name].clone()

    def _augment(self, name: str, network: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Before a discriminator: remember which rows are real, and transform all."""
        if not network.training:
            return None
        images: Tensor = args[0]
        self._real[name] = self._found(images)
        return (self.augments[name](images), *args[1:])

    def _found(self, images: Tensor) -> Tensor:
        """Which of the images [N, C, H, W] are of the batch, bool [N]."""
        found = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        if images.requires_grad:
            return found
        for known in self._images:
            if known.shape[2:] == images.shape[2:]:
                own = to_channels(known, images.shape[1]).to(images)
                pairs = [part.flatten(1)[:, :: 1 + part[0].numel() // 512] for part in (images, own)]
                found |= (pairs[0].unsqueeze(1) == pairs[1].unsqueeze(0)).all(2).any(1)
        return found

    def _watch(self, name: str, network: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """After a discriminator: count the signs of the scores of real images."""
        if not network.training:
            return
        scores: Tensor = output[0] if isinstance(output, tuple) else output
        if scores.dim() > 1 and scores.shape[1] > 1:
            raise UserError(f"AdaptiveAugmentation: {name} gives {scores.shape[1]} scores for an image, not one.")
        real, counts = self._real.pop(name), self._counts[name]
        if not args[0].requires_grad:
            signs = (scores.detach().float() - self.undecided).sign().view(len(real), -1).mean(1)
            counts += torch.stack([(signs * real).sum(), real.sum(), torch.ones_like(signs[0])])
