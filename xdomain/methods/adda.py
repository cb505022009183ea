"""Adversarial discriminative domain adaptation."""

import copy
from typing import Any

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from xdomain.batch import Batch, to_channels
from xdomain.errors import refuse
from xdomain.losses import bce_gan, l_domain
from xdomain.methods.adaptation import AdaptationMethod, DiscriminatorFactory
from xdomain.methods.base import Phase
from xdomain.networks.adaptation import DomainDiscriminator


class ADDA(AdaptationMethod):
    """Adversarial adaptation with a network of its own for the target, which begins as a copy of the source's.

    Tzeng, Hoffman, Saenko, Darrell, "Adversarial Discriminative Domain Adaptation", CVPR 2017. Phase 1 trains a
    classifier on the source. In phase 2 it stays as it is for source images; d learns to tell its logits from those of
    its copy for target images, and the copy learns that d takes its logits for the source's.

    Args:
        network: the classifier; see :class:`xdomain.methods.adaptation.AdaptationMethod`.
        discriminator: makes d from the number of classes: it sees logits.
        source_steps: batches of phase 1.
        steps: batches of phase 2.
        source_optimizer: builds the optimiser of phase 1; ``optimizer`` builds those of phase 2.
        options: see :class:`xdomain.methods.classifier.Classifier`.
    """

    adapting: Tensor

    def __init__(
        self,
        network: nn.Module,
        discriminator: DiscriminatorFactory = DomainDiscriminator,
        source_steps: int = 10000,
        steps: int = 10000,
        source_optimizer: OptimizerCallable = Adam,
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        for name, value in (("source_steps", source_steps), ("steps", steps)):
            if value < 1:
                refuse(self, name, value, "give a number of batches of at least 1.")
        self.source_steps, self.steps, self.source_optimizer = source_steps, steps, source_optimizer
        self.source = copy.deepcopy(self.network).requires_grad_(False)
        self.d = discriminator(self.classes)
        self.register_buffer("adapting", torch.tensor(False))

    def build_phases(self) -> tuple[Phase, ...]:
        return (Phase("source", self.source_steps, ("c",)), Phase("adaptation", self.steps, ("d", "t")))

    def build_optimizers(self) -> dict[str, Optimizer]:
        return {
            "c": self.source_optimizer(self.network.parameters()),
            "d": self.optimizer(self.d.parameters()),
            "t": self.optimizer(self.network.parameters()),
        }

    def network_of(self, role: str) -> nn.Module:
        return self.source if role == "a" and self.adapting else self.network

    def judged(self, images: Tensor, role: str) -> Tensor:
        logits: Tensor = self.network_of(role)(to_channels(images, self.in_channels))
        return logits

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """At the start of phase 2, keep the network as it is for source images."""
        if self.trainer.global_step in (0, self.source_steps):
            self.source.load_state_dict(self.network.state_dict())
            self.adapting.fill_(self.trainer.global_step > 0)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        if self.phase.name == "source":
            a = batch["a"]
            self.log("l_class", self.step("c", lambda: self.l_class(self(a.image), a)), prog_bar=True)
            return
        with torch.no_grad():
            source = self.judged(batch["a"].image, "a")
        target = self.judged(batch["b"].image, "b")  # one pass for both updates

        def d_loss() -> Tensor:
            d_a, d_b = self.d(source), self.d(target.detach())
            self.log_d_accuracy(d_a, d_b)
            return l_domain(d_a, d_b, 0, 1)

        self.log("l_d", self.step("d", d_loss), prog_bar=True)
        self.log("l_t", self.step("t", lambda: bce_gan(self.d(target), False)), prog_bar=True)
