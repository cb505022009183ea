"""Base class for methods with a domain-confusion adversary: guided transfer, DIDD and masked transfer."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from xdomain.errors import refuse
from xdomain.losses import l_domain
from xdomain.methods.content import ContentMethod
from xdomain.networks import CodeDiscriminator, LinearDiscriminant

Target = Literal["label", "uniform"]


class ConfusionMethod(ContentMethod):
    """Base class for methods with a domain-confusion adversary: a discriminator d of the common codes.

    d learns to tell the common codes of both domains apart, the encoder learns to fool it. The defaults are those of
    the authors' code; short runs need a stronger adversary.

    Args:
        confusion: weight of the domain confusion. Tune it first in a short run: d should classify about 60 % of the
            codes correctly.
        ramp: number of batches over which the weight of the confusion grows from 0; 0 disables the ramp, as in the
            papers. A code that is confused before it can reconstruct carries less and less information.
        confusion_target: the output of d that the encoder aims at for both domains. ``label``: the second domain, as in
            the papers; this can move all codes across d's boundary faster than d can follow. ``uniform``: undecided
            (Tzeng et al. 2015).
        d_steps: updates of d per batch; 1 in the papers.
        discriminant: weight of a second, linear adversary in closed form; see
            :class:`xdomain.networks.LinearDiscriminant`. 0 disables it, as in the papers.
        options: see :class:`xdomain.methods.content.ContentMethod`.

    Attributes:
        labels: target outputs of d for codes of the first and of the second domain.
        weights: weights of the losses, by their names in the logs.
    """

    labels = (1, 0)

    def __init__(
        self,
        confusion: float,
        ramp: int = 0,
        confusion_target: Target = "label",
        d_steps: int = 1,
        discriminant: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if d_steps < 1:
            refuse(self, "d_steps", d_steps, "give a number of updates of at least 1.")
        self.weights = {"l_confuse": confusion, "l_discriminant": discriminant}
        self.ramp, self.d_steps = ramp, d_steps
        self.confused = 0.5 if confusion_target == "uniform" else self.labels[1]

    def build_adversaries(self, dim: int, hidden: int) -> None:
        """Build the adversaries for common codes of length ``dim``: d with ``hidden`` units, and the linear one."""
        self.d = CodeDiscriminator(dim, hidden)
        if self.weights["l_discriminant"]:
            self.linear = LinearDiscriminant(dim)

    def confusion_losses(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        """Losses of the encoder, by name, for the common codes a and b [N, dim] of both domains."""
        losses = {"l_confuse": l_domain(self.d(a), self.d(b), self.confused, self.confused)}
        if self.weights["l_discriminant"]:
            losses["l_discriminant"] = self.linear(a, b, self._over_processes)
        return losses

    def current_weights(self) -> dict[str, float]:
        """Weights of the losses in this batch; those of the adversaries are ramped up."""
        grown = {name: self.ramped(self.weights[name], self.ramp) for name in ("l_confuse", "l_discriminant")}
        return self.weights | grown

    def weighted(self, losses: dict[str, Tensor]) -> Tensor:
        """Weighted sum of the losses, with the weights of this batch."""
        self.log_dict({name: loss.detach() for name, loss in losses.items()})
        weights = self.current_weights()
        return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()

    def train_discriminator(self, encode: Callable[[], Sequence[Tensor]]) -> None:
        """Update d on the common codes of both domains, computed by ``encode``."""
        with torch.no_grad():
            a, b = encode()

        def loss() -> Tensor:
            first, second = self.d(a), self.d(b)
            low, high = (first, second) if self.labels[0] == 0 else (second, first)
            self.log("d_accuracy", torch.cat([low < 0, high > 0]).float().mean())
            return l_domain(first, second, *self.labels)

        for _ in range(self.d_steps):
            l_d = self.step("d", loss)
        self.log("l_d", l_d, prog_bar=True)

    def _over_processes(self, value: Tensor) -> Tensor:
        """Average of a tensor over all processes."""
        reduced: Tensor = self.trainer.strategy.reduce(value.detach().clone(), reduce_op="mean")
        return reduced
