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
    the papers' code; short runs need a stronger adversary.

    Args:
        confusion: weight of the domain confusion. The first thing to tune in a short run: d should be right on some
            60 % of the codes.
        ramp: batches in which the confusion's weight grows from 0; 0 is none, as in the papers. A code that is confused
            before it can reconstruct carries less and less.
        confusion_target: what d is to say of both domains: ``label``, that they are the second, as in the papers, or
            ``uniform``, that it cannot decide (Tzeng et al. 2015). The first moves all codes to d's other side, faster
            than d can follow.
        d_steps: updates of d per batch; 1 in the papers.
        discriminant: weight of a second, linear adversary in closed form; see
            :class:`xdomain.networks.LinearDiscriminant`. 0 is none, as in the papers.
        options: see :class:`xdomain.methods.content.ContentMethod`.

    Attributes:
        labels: what d is to say of codes of the first and of the second domain.
        weights: of the losses by their names in the logs.
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
        """Networks that read common codes of length ``dim``: d with so many hidden values, and the linear one."""
        self.d = CodeDiscriminator(dim, hidden)
        if self.weights["l_discriminant"]:
            self.linear = LinearDiscriminant(dim)

    def confusion_losses(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        """What the encoder of the common codes a and b [N, dim] of both domains minimises, by name."""
        losses = {"l_confuse": l_domain(self.d(a), self.d(b), self.confused, self.confused)}
        if self.weights["l_discriminant"]:
            losses["l_discriminant"] = self.linear(a, b, self._over_processes)
        return losses

    def current_weights(self) -> dict[str, float]:
        """The weights of the losses in this batch; those of the adversaries grow in."""
        grown = {name: self.ramped(self.weights[name], self.ramp) for name in ("l_confuse", "l_discriminant")}
        return self.weights | grown

    def weighted(self, losses: dict[str, Tensor]) -> Tensor:
        """The sum of losses by their weights in this batch."""
        self.log_dict({name: loss.detach() for name, loss in losses.items()})
        weights = self.current_weights()
        return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()

    def train_discriminator(self, encode: Callable[[], Sequence[Tensor]]) -> None:
        """Update d on the common codes of both domains, which ``encode`` computes."""
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
        """The average of a tensor over all processes."""
        reduced: Tensor = self.trainer.strategy.reduce(value.detach().clone(), reduce_op="mean")
        return reduced
