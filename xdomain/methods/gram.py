"""Neural style transfer by Gram matrices: optimises the pixels of one image."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from xdomain.batch import Batch, to_uint8
from xdomain.errors import UserError, refuse
from xdomain.features import build_extractor
from xdomain.features.base import Extractor
from xdomain.methods.base import Method, Phase
from xdomain.metrics.perceptual import gram


class GramStyleTransfer(Method):
    """Optimises the image a until the Gram matrices of its features match those of b.

    Gatys, Ecker, Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016; (n) are its equations.
    No network is trained: the only parameter is ``picture``, the result.

    Args:
        iterations: updates of the picture.
        features: the feature network; see :func:`xdomain.features.build_extractor`.
        content_layer: layer whose feature maps should stay those of a; by default the network's third.
        style_layers: layers whose Gram matrices should match those of b; by default all named layers of the network.
        alpha: weight of the content.
        beta: weight of the style.
        start: initial picture: ``content``, the image a, or ``noise``.
        options: see :class:`xdomain.methods.base.Method`.
    """

    any_size = True
    transductive = True
    real_a: Tensor

    def __init__(
        self,
        iterations: int = 300,
        features: str = "random-conv",
        content_layer: str | None = None,
        style_layers: Sequence[str] | None = None,
        alpha: float = 1.0,
        beta: float = 1e6,
        start: Literal["content", "noise"] = "content",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if iterations < 1:
            refuse(self, "iterations", iterations, "give a number of updates of at least 1.")
        if len(self.domains) != 2 or any(len(shape) != 2 for shape in self.shapes):
            raise UserError("GramStyleTransfer works on a pair of images: use ImagePair.")
        network = build_extractor(features)
        self.content_layer = content_layer or network.layers[min(2, len(network.layers) - 1)]
        self.style_layers = tuple(style_layers or network.layers)
        self.iterations, self.alpha, self.beta, self.start = iterations, alpha, beta, start
        self._held = (network,)  # in a tuple, so that it is no submodule and not saved in checkpoints
        self._targets: tuple[Tensor, list[Tensor]] | None = None
        self.picture = nn.Parameter(torch.rand(1, 3, *self.shapes[0]) * 2 - 1)
        self.register_buffer("real_a", torch.zeros(1, 3, *self.shapes[0], dtype=torch.uint8))

    @property
    def network(self) -> Extractor:
        """The feature network, on the device of the method."""
        return self._held[0].to(self.device)

    def build_optimizers(self) -> dict[str, Optimizer]:
        return {"picture": self.optimizer([self.picture])}

    def build_phases(self) -> tuple[Phase, ...]:
        return (Phase("picture", self.iterations),)

    def on_fit_start(self) -> None:
        """Load the weights of the feature network, and discard the targets of an earlier training.

        Raises:
            UserError: if the network lacks one of the layers.
        """
        self._held[0].fetch(self.trainer.strategy, self.data.root)
        self._targets = None
        try:
            self.network.pyramid(self.picture, [self.content_layer, *self.style_layers])
        except ValueError as error:
            raise UserError(f"{error}: change content_layer or style_layers.") from error

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Initialise the picture with the content image, if it is to start from it."""
        if self.trainer.global_step == 0:
            self.real_a.copy_(to_uint8(batch["a"].image[:1]))
            if self.start == "content":
                self.picture.data.copy_(batch["a"].image[:1])

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        content, styles = self._targets = self._targets or self.targets(batch)
        maps = self.network.perceive(self.picture, [self.content_layer, *self.style_layers])
        l_content = (maps[0] - content).square().mean()  # (1), as a mean
        pairs = zip(maps[1:], styles, strict=True)
        l_style = torch.stack([(gram(y) - style).square().mean() for y, style in pairs]).mean()  # (4) and (5)
        loss = self.step("picture", lambda: self.alpha * l_content + self.beta * l_style)  # (7)
        self.picture.data.clamp_(-1, 1)  # outside of the range, the network sees no difference and gives no gradient
        self.log("loss", loss, prog_bar=True)
        self.log_dict({"l_content": l_content.detach(), "l_style": l_style.detach()})

    def targets(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Feature maps of a [1, C, h, w], and Gram matrices [1, C, C] of b, one per style layer."""
        (content,) = self.network.pyramid(batch["a"].image[:1], [self.content_layer])
        return content, [gram(maps) for maps in self.network.pyramid(batch["b"].image[:1], self.style_layers)]

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        return ((self.domains[0], self.domains[-1]),)

    def translate(self, images: Tensor, source: str, target: str) -> Tensor:
        """The result; only for the image that was trained on.

        Args:
            images: that image, float [N, 3, H, W] in [-1, 1].
            source: its domain, the first.
            target: the last domain.

        Returns:
            the picture [N, 3, H, W] in [-1, 1].

        Raises:
            UserError: for other images or other directions.
        """
        known = self.shapes[0] == tuple(images.shape[-2:]) and bool((to_uint8(images) == self.real_a).all())
        if (source, target) != self.domains or not known:
            raise UserError(
                f"GramStyleTransfer has made one picture, of the image {self.domains[0]} in the style of "
                f"{self.domains[-1]}: for other images, train it on them."
            )
        return self.picture.detach().expand(len(images), -1, -1, -1)
