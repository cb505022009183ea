"""A segmentation network, learned from pairs of pictures and label maps: the judge of pictures made from label maps."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch
from xdomain.errors import UserError, refuse
from xdomain.methods.base import Method
from xdomain.metrics.segmentation import nearest_classes


class Segmenter(Method):
    """Labels every pixel; trained by cross-entropy on pairs of a picture and its label map.

    The classes are the colours of the second domain's palette, in their order.

    Args:
        network: with ``in_channels``, ``classes`` and logits [N, classes, H, W] as its output.
        options: see :class:`xdomain.methods.base.Method`.
    """

    def __init__(self, network: nn.Module, **options: Any) -> None:
        super().__init__(**options)
        self.network = network

    def on_fit_start(self) -> None:
        """Refuse data without pairs or without a palette before the first batch."""
        name = type(self.data).__name__
        if not self.data.pairs:
            raise UserError(f"Segmenter learns from pairs, but {name} gives none: set its pairs.")
        palette = self.data.palettes.get(self.domains[-1])
        if palette is None:
            raise UserError(f"{self.domains[-1]} of {name} has no palette, so that its images are no label maps.")
        if self.network.classes != len(palette):
            way = f", but {self.domains[-1]} has {len(palette)}: give the same number."
            refuse(self, "network.classes", self.network.classes, way)

    def build_optimizers(self) -> dict[str, Optimizer]:
        return {"c": self.optimizer(self.network.parameters())}

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, classes, H, W] of images [N, C, H, W] in [-1, 1]."""
        logits: Tensor = self.network(images)
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        classes = nearest_classes(batch["b"].image, self.data.palettes[self.domains[-1]])
        loss = self.step("c", lambda: F.cross_entropy(self(batch["a"].image), classes))
        self.log("loss", loss, prog_bar=True)
