"""Domain confusion."""

from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from xdomain.batch import Batch
from xdomain.losses import l_domain
from xdomain.methods.adaptation import AdaptationMethod, DiscriminatorFactory
from xdomain.networks.adaptation import DomainDiscriminator


class DomainConfusion(AdaptationMethod):
    """Domain confusion: f learns features at which the classifier of domains cannot decide.

    Tzeng, Hoffman, Darrell, Saenko, "Simultaneous Deep Transfer Across Domains and Tasks", ICCV 2015, without its soft
    labels, which need labels of the second domain. d learns to tell the domains apart, then f and c take a step on
    CE(c(f(x_a)), y_a) + ``weight`` * the cross-entropy of d's answers with an even chance, summed over both domains.

    Args:
        network: f and c, see :class:`xdomain.methods.adaptation.AdaptationMethod`.
        discriminator: makes d from the length of the features.
        weight: weight of the confusion; 0 trains on the source alone.
        options: see :class:`xdomain.methods.classifier.Classifier`.
    """

    def __init__(
        self,
        network: nn.Module,
        discriminator: DiscriminatorFactory = DomainDiscriminator,
        weight: float = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        self.weight = weight
        self.d = discriminator(self.network.dim)  # type: ignore[arg-type]

    def build_optimizers(self) -> dict[str, Optimizer]:
        return {"d": self.optimizer(self.d.parameters()), "f": self.optimizer(self.network.parameters())}

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        h_a, h_b = self.features_of_both(batch)  # one pass for both updates

        def d_loss() -> Tensor:
            d_a, d_b = self.d(h_a.detach()), self.d(h_b.detach())
            self.log_d_accuracy(d_a, d_b)
            return l_domain(d_a, d_b, 0, 1)

        def f_loss() -> Tensor:
            l_class = self.l_class(self.logits(h_a), batch["a"])
            l_confuse = l_domain(self.d(h_a), self.d(h_b), 0.5, 0.5)
            self.log_dict({"l_class": l_class.detach(), "l_confuse": l_confuse.detach()}, prog_bar=True)
            return l_class + self.weight * l_confuse

        self.log("l_d", self.step("d", d_loss), prog_bar=True)
        self.step("f", f_loss)
