"""An identity embedder: f for faces, and the network that judges whether a translation keeps the person."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch, to_channels, to_float
from xdomain.data.avatars import Avatars
from xdomain.errors import UserError, refuse
from xdomain.methods.calibration import Calibration
from xdomain.methods.classifier import Classifier

WHITENED_PEOPLE = 4000  # training identities that the whitening is fitted to; more change nothing


class IdentityEmbedder(Classifier):
    """Distinguishes identities by the cosine similarity of its features, and can regress the values that define them.

    Trained by cross-entropy on the identities and, for drawn faces, by the squared error of a linear regression of the
    identity's values (the width of the face, the colour of the hair, ...). A class label only names one of some hundred
    faces; the values say how two faces differ. The regression layer is dropped after training.

    Args:
        network: see :class:`xdomain.methods.classifier.Classifier`.
        naming: weight of the cross-entropy on identities; 0 trains by the regression alone, for any number of
            identities.
        reading: weight of the regression; 0 trains by identities alone.
        whiten: fit the network's :class:`xdomain.networks.faces.Whitening` to the training images at every validation
            and at the end of training. Training itself uses the features before whitening.
        options: see :class:`xdomain.methods.classifier.Classifier`.
    """

    def __init__(
        self, network: nn.Module, naming: float = 1.0, reading: float = 0.0, whiten: bool = False, **options: Any
    ) -> None:
        super().__init__(network, **options)
        if not naming and not reading:
            refuse(
                self,
                "naming",
                naming,
                ", and reading as well, so that there is nothing to learn: set one of them above 0.",
            )
        if whiten and naming:
            reason = f", which turns the features away from the directions that naming ({naming}) learns"
            refuse(self, "whiten", "true", f"{reason}: set one of them to 0 or false.")
        self.naming, self.reading, self.whiten = naming, reading, whiten
        dim: int = network.dim  # type: ignore[assignment]
        self.reader = nn.Linear(dim, Avatars.identity_size) if reading else None
        self._values: Tensor | None = None

    def build_optimizers(self) -> dict[str, Optimizer]:
        unused = set() if self.naming else set(self.network.head.parameters())  # type: ignore[union-attr]
        return {"c": self.optimizer([p for p in self.parameters() if p not in unused])}

    def on_fit_start(self) -> None:
        """Load the identities' values of all training images."""
        if self.reader is not None:
            data = self.data
            if not isinstance(data, Avatars):
                reason = f", but {type(data).__name__} does not know the values of its identities"
                refuse(self, "reading", self.reading, f"{reason}: set it to 0, or use Avatars.")
            self._values = data.identity_values("a", "train").to(self.device)

    def raw_features(self, images: Tensor) -> Tensor:
        """Features [N, dim] of images [N, C, H, W] in [-1, 1] before the whitening."""
        features: Tensor = self.network.body(to_channels(images, self.in_channels))  # type: ignore[operator]
        return features

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x, label, position = batch["a"].image, batch["a"].label, batch["a"].position
        if label is None:
            raise UserError(f"an embedder of identities needs them, but {self.domains[0]} has none.")

        def loss() -> Tensor:
            features, losses = self.raw_features(x), {}
            total = features.new_zeros(())
            if self.naming:
                named = F.cross_entropy(self.logits(features), label, label_smoothing=self.label_smoothing)
                losses["l_identity"] = named
                total = total + self.naming * named
            if self.reader is not None and self._values is not None:
                losses["l_reading"] = F.mse_loss(self.reader(features), self._values[position])
                total = total + self.reading * losses["l_reading"]
            self.log_dict({name: value.detach() for name, value in losses.items()})
            return total

        self.log("loss", self.step("c", loss), prog_bar=True)

    def configure_callbacks(self) -> list[pl.Callback]:
        callbacks = super().configure_callbacks()
        if self.whiten:
            whitening: nn.Module = self.network.whitening  # type: ignore[assignment]
            callbacks.append(Calibration(whitening, lambda: whitening.fit(self._features_by_person())))  # type: ignore[operator]
        return callbacks

    def _features_by_person(self) -> Tensor:
        """Features [people, images, dim] of training images before the whitening, the same number for each person."""
        data = self.data.data("a", "train")
        assert data.labels is not None
        order = np.argsort(data.labels, kind="stable")
        _, starts, counts = np.unique(data.labels[order], return_index=True, return_counts=True)
        rows = order[starts[:WHITENED_PEOPLE, None] + np.arange(counts.min())]
        parts = np.array_split(rows.ravel(), -(-rows.size // self.data.eval_batch_size))
        images = (to_float(data.__getitems__(part.tolist()).image.to(self.device)) for part in parts)
        return torch.cat([self.raw_features(part) for part in images]).view(*rows.shape, -1)
