"""Domain-adversarial training of neural networks."""

import math
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from xdomain.batch import Batch
from xdomain.errors import refuse
from xdomain.losses import l_domain
from xdomain.methods.adaptation import AdaptationMethod, DiscriminatorFactory
from xdomain.networks.adaptation import DomainDiscriminator, reverse_gradient


class DANN(AdaptationMethod):
    """Domain-adversarial training: f learns features by which classes can be told, but not domains.

    Ganin, Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015; Ganin et al., "Domain-Adversarial
    Training of Neural Networks", JMLR 17(59), 2016. One optimiser takes one step on

        L = CE(c(f(x_a)), y_a) + BCE(d(R(f(x_a))), 0) + BCE(d(R(f(x_b))), 1)

    where the gradient reversal R turns d's gradient around, times lambda, before it reaches f. d itself learns with a
    weight of 1 at all times. lambda grows with the finished share p of the training:
    ``weight`` * (2 / (1 + exp(-10 p)) - 1).

    Args:
        network: f and c, see :class:`xdomain.methods.adaptation.AdaptationMethod`.
        discriminator: makes d from the length of the features.
        weight: lambda at the end; 1 in the papers, 0 trains on the source alone. Short trainings need less.
        steps: batches until p is 1, usually those of the training.
        options: see :class:`xdomain.methods.classifier.Classifier`.
    """

    def __init__(
        self,
        network: nn.Module,
        discriminator: DiscriminatorFactory = DomainDiscriminator,
        weight: float = 1.0,
        steps: int = 10000,
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        if steps < 1:
            refuse(self, "steps", steps, "give a number of batches of at least 1.")
        self.weight, self.steps = weight, steps
        self.d = discriminator(self.network.dim)  # type: ignore[arg-type]

    def build_optimizers(self) -> dict[str, Optimizer]:
        return {"all": self.optimizer([*self.network.parameters(), *self.d.parameters()])}

    @property
    def strength(self) -> float:
        """Lambda of the current batch."""
        return self.weight * ramp(min(self.trainer.global_step / self.steps, 1.0))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        strength = self.strength

        def loss() -> Tensor:
            h_a, h_b = self.features_of_both(batch)
            l_class = self.l_class(self.logits(h_a), batch["a"])
            d_a, d_b = self.d(reverse_gradient(h_a, strength)), self.d(reverse_gradient(h_b, strength))
            l_d = l_domain(d_a, d_b, 0, 1)
            self.log_dict({"l_class": l_class.detach(), "l_d": l_d.detach()}, prog_bar=True)
            self.log_d_accuracy(d_a, d_b)
            return l_class + l_d

        self.step("all", loss)
        self.log("lambda", strength)


def ramp(p: float) -> float:
    """How far lambda has grown after the share p of a training: 0 at 0, 0.462 at 0.1, 0.987 at 0.5."""
    return 2 / (1 + math.exp(-10 * p)) - 1
