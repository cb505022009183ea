"""An embedder of identities: f of faces, and the judge of whether a translation keeps the person."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch
from xdomain.data.avatars import Avatars
from xdomain.errors import UserError
from xdomain.methods.classifier import Classifier


class IdentityEmbedder(Classifier):
    """Tells identities apart by the cosine of its features, and can read from them what makes an identity.

    Trained by cross-entropy on the identities and, for drawn faces, by the squared error of a linear reading of the
    identity's values (the width of the face, the colour of the hair, ...): what a name says about a face is one of some
    hundreds of words, what the values say is how two faces differ. The reading is dropped after training.

    Args:
        network: see :class:`xdomain.methods.classifier.Classifier`.
        reading: weight of the reading; 0 trains by identities alone.
        options: see :class:`xdomain.methods.classifier.Classifier`.
    """

    def __init__(self, network: nn.Module, reading: float = 0.0, **options: Any) -> None:
        super().__init__(network, **options)
        self.reading = reading
        dim: int = network.dim  # type: ignore[assignment]
        self.reader = nn.Linear(dim, Avatars.identity_size) if reading else None
        self._values: Tensor | None = None

    def build_optimizers(self) -> dict[str, Optimizer]:
        parameters = [*self.network.parameters(), *(self.reader.parameters() if self.reader else ())]
        return {"c": self.optimizer(parameters)}

    def on_fit_start(self) -> None:
        """Get the identities' values of all training images."""
        if self.reader is not None:
            data = self.data
            if not isinstance(data, Avatars):
                raise UserError(
                    f"model.init_args.reading is {self.reading}, but {type(data).__name__} does not know the values of "
                    "its identities: set it to 0, or use Avatars."
                )
            self._values = data.identity_values("a", "train").to(self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x, label, position = batch["a"].image, batch["a"].label, batch["a"].position
        if label is None:
            raise UserError(f"an embedder of identities needs them, but {self.domains[0]} has none.")

        def loss() -> Tensor:
            features = self.features(x)
            losses = {"l_identity": F.cross_entropy(self.logits(features), label, label_smoothing=self.label_smoothing)}
            total = losses["l_identity"]
            if self.reader is not None and self._values is not None:
                losses["l_reading"] = F.mse_loss(self.reader(features), self._values[position])
                total = total + self.reading * losses["l_reading"]
            self.log_dict({name: value.detach() for name, value in losses.items()})
            return total

        self.log("loss", self.step("c", loss), prog_bar=True)
