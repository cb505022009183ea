"""A classifier of several attributes at once. It judges what a translation removed, added and kept."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch, Sample, to_channels
from xdomain.data.attributes import AttributeDomains, truth
from xdomain.errors import UserError, refuse
from xdomain.methods.base import Method


class AttributeClassifier(Method):
    """Classifies attributes of the images of one attributed set, one logit each; trained by binary cross-entropy.

    Images with and without a target are weighted by their numbers in the training part, so that a threshold of 0 gives
    the best balanced accuracy.

    Args:
        network: classifier with ``in_channels``, ``classes``, ``features(x)`` and logits as its output.
        targets: maps the name of a target to its rule over the data's attributes, such as ``{Facial_Hair: Mustache or
            Goatee or not No_Beard}``; as many as the network has classes.
        options: see :class:`Method`.
    """

    weights: Tensor

    def __init__(self, network: nn.Module, targets: dict[str, str], **options: Any) -> None:
        super().__init__(**options)
        self.network, self.targets = network, targets
        if network.classes != len(targets):
            way = f", but there are {len(targets)} targets: give the same number."
            refuse(self, "network.classes", network.classes, way)
        self.in_channels: int = network.in_channels  # type: ignore[assignment]
        self.register_buffer("weights", torch.ones(len(targets)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, K] of images [N, C, H, W] in [-1, 1]; positive where a target holds."""
        logits: Tensor = self.network(to_channels(images, self.in_channels))
        return logits

    def truth(self, sample: Sample) -> Tensor:
        """Which targets hold, float [N, K] of 0 and 1."""
        if sample.attributes is None:
            raise UserError(f"a classifier of attributes needs them, but {self.domains[0]} has none.")
        return self._holding(sample.attributes).to(sample.image.device)

    def _holding(self, attributes: Tensor) -> Tensor:
        data, table = self.data, attributes.cpu().numpy()
        if not isinstance(data, AttributeDomains):
            raise UserError(f"AttributeClassifier needs attributed data such as Avatars, not {type(data).__name__}.")
        return truth(self.targets.values(), data.attribute_names, table).float()

    def build_optimizers(self) -> dict[str, Optimizer]:
        return {"c": self.optimizer(self.network.parameters())}

    def on_fit_start(self) -> None:
        """Count the targets in the training part."""
        attributes = self.data.data("a", "train").attributes
        if attributes is not None:
            share = self._holding(torch.from_numpy(attributes)).mean(0)
            for name, value in zip(self.targets, share.tolist(), strict=True):
                if value in (0.0, 1.0):
                    raise UserError(f"the target {name} holds for {value:.0%} of the training images: leave it out.")
            self.weights.copy_((1 - share) / share)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x, truth = batch["a"].image, self.truth(batch["a"])
        weight = truth * self.weights + (1 - truth)
        loss = self.step("c", lambda: F.binary_cross_entropy_with_logits(self(x), truth, weight))
        self.log("loss", loss, prog_bar=True)
