"""Deep image analogy: the look of one image at the places of another, by nearest-neighbour fields of deep features."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch, to_uint8
from xdomain.data.base import ROLES
from xdomain.errors import SettingError, UserError, refuse
from xdomain.features import build_extractor
from xdomain.features.base import Extractor
from xdomain.methods.base import Method, Phase
from xdomain.methods.pyramid import check_at_least_one
from xdomain.networks.patch_match import identity_field, patch_match, upsample_field, vote

CONFIDENT = 0.05  # tau of the paper
RADII = (6, 6, 4)  # of the levels after the coarsest; the last one's is that of all finer ones


class DeepImageAnalogy(Method):
    """Finds A' and B so that A : A' = B : B', for two images A and B' (a and b of the data).

    Liao, Yao, Yuan, Hua, Kang, "Visual Attribute Transfer through Deep Image Analogy", SIGGRAPH 2017. A' has the layout
    of A and the look of B', B the layout of B' and the look of A. No network is trained. From the coarsest layer of a
    frozen network to the finest, PatchMatch finds a nearest-neighbour field from A to B' and one back, and then the
    features of A' and B at the next layer are optimised: the only parameters. A' consists of the pixels of B' to which
    the finest field points.

    Args:
        iterations: updates of the features of a layer; there is one layer less than in ``layers`` to optimise.
        features: the feature network, ``random-conv`` or one of torchvision; see
            :func:`xdomain.features.build_extractor`.
        layers: layers of the network, the coarsest first; by default all named layers.
        alphas: weights of the features of A (and B') against those made for A' (and B), one per layer after the first.
        searches: iterations of PatchMatch per layer.
        options: see :class:`xdomain.methods.base.Method`. Features are divided by their root mean square, so that a
            learning rate suits every layer.
    """

    any_size = True
    transductive = True
    real_a: Tensor
    real_b: Tensor
    picture_a: Tensor
    picture_b: Tensor

    def __init__(
        self,
        iterations: int = 100,
        features: str = "random-conv",
        layers: Sequence[str] | None = None,
        alphas: Sequence[float] = (0.8, 0.7, 0.1),
        searches: int = 10,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_at_least_one(self, iterations=iterations, searches=searches)
        if len(self.domains) != 2 or any(len(shape) != 2 for shape in self.shapes):
            raise UserError("DeepImageAnalogy works on a pair of images: use ImagePair.")
        network = build_extractor(features)
        self.layers = tuple(layers or reversed(network.layers))
        if len(self.layers) < 2:
            refuse(self, "layers", list(self.layers), "give two or more, the coarsest first.")
        if len(alphas) != len(self.layers) - 1 or not all(0 <= alpha <= 1 for alpha in alphas):
            wanted = f"give {len(self.layers) - 1} numbers from 0 to 1, one per finer layer."
            refuse(self, "alphas", list(alphas), wanted)
        self.iterations, self.alphas, self.searches = iterations, tuple(alphas), searches
        self._held = (network,)  # in a tuple, so that it is no submodule and not saved in checkpoints
        self._known: dict[str, list[Tensor]] | None = None
        self._scales: list[Tensor] = []
        for role, shape in zip(ROLES, self.shapes, strict=True):
            maps = self._try(torch.zeros(1, 3, *shape))
            self.register_module(f"features_{role}", nn.ParameterList(torch.zeros_like(x) for x in maps[1:]))
            self.register_buffer(f"real_{role}", torch.zeros(1, 3, *shape, dtype=torch.uint8))
            self.register_buffer(f"picture_{role}", torch.zeros(1, 3, *shape))
            for i, x in enumerate(maps):
                self.register_buffer(f"field_{role}{i}", torch.zeros(1, 2, *x.shape[2:], dtype=torch.int64))

    def _try(self, images: Tensor) -> list[Tensor]:
        """The maps of an image; the network must be able to run from any layer to the one before it in ``layers``."""
        network = self._held[0]
        try:
            maps = network.pyramid(images, self.layers)
            for coarse, fine, x in zip(self.layers, self.layers[1:], maps[1:], strict=False):
                network.onward(x, fine, coarse)
        except (RuntimeError, ValueError) as error:
            raise SettingError(self, "layers", f"or features do not fit: {error}.") from error
        return maps

    @property
    def network(self) -> Extractor:
        """The feature network, on the device of the method."""
        return self._held[0].to(self.device)

    def build_optimizers(self) -> dict[str, Optimizer]:
        pairs = zip(self.made("a"), self.made("b"), strict=True)
        return {f"level{i}": self.optimizer(list(pair)) for i, pair in enumerate(pairs)}

    def build_phases(self) -> tuple[Phase, ...]:
        return tuple(Phase(f"level {i}", self.iterations, (f"level{i}",)) for i in range(len(self.alphas)))

    def place(self, step: int) -> tuple[int, int]:
        """Level of batch number ``step`` (from 0) and position within it; later batches belong to the last but one."""
        level = min(step // self.iterations, len(self.alphas) - 1)
        return level, step - level * self.iterations

    def made(self, role: str) -> nn.ParameterList:
        """Features made for A' on the grid of A (role a) or for B on that of B', one [1, C, h, w] per finer layer."""
        features: nn.ParameterList = getattr(self, f"features_{role}")
        return features

    def field(self, role: str, level: int) -> Tensor:
        """Field [1, 2, h, w] of a level from A to B' (role a) or from B' to A."""
        field: Tensor = getattr(self, f"field_{role}{level}")
        return field

    def on_fit_start(self) -> None:
        """Discard the features of an earlier training."""
        self._known = None

    def known(self, batch: Batch) -> dict[str, list[Tensor]]:
        """Features of A and B', one [1, C, h, w] per layer, divided by their root mean square over both images."""
        if self._known is None:
            maps = [self.network.pyramid(batch[role].image[:1].float(), self.layers) for role in ROLES]
            scales = [((x.square().mean() + y.square().mean()) / 2).sqrt() for x, y in zip(*maps, strict=True)]
            scaled = ([x / scale for x, scale in zip(pyramid, scales, strict=True)] for pyramid in maps)
            self._known, self._scales = dict(zip(ROLES, scaled, strict=True)), scales
        return self._known

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Begin a level: search, and start the next layer's features from what the fields point to."""
        level, position = self.place(self.trainer.global_step)
        if position > 0:
            return
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            if level == 0:
                self.real_a.copy_(to_uint8(batch["a"].image[:1]))
                self.real_b.copy_(to_uint8(batch["b"].image[:1]))
            self.search(level, batch)
            known = self.known(batch)
            for role, other in (("a", "b"), ("b", "a")):
                field = self.upsampled(role, level, known[role][level + 1].shape, known[other][level + 1].shape)
                self.made(role)[level].copy_(vote(field, known[other][level + 1]))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        level, position = self.place(self.trainer.global_step)
        with torch.autocast(self.device.type, enabled=False):
            known = self.known(batch)
            targets = {"a": vote(self.field("a", level), known["b"][level])}
            targets["b"] = vote(self.field("b", level), known["a"][level])
            loss = self.step(
                f"level{level}", lambda: torch.stack([self.l_made(role, level, targets[role]) for role in ROLES]).sum()
            )
            if position + 1 == self.iterations and level + 1 == len(self.alphas):
                self.search(level + 1, batch)
        self.log("loss", loss, prog_bar=True)
        self.log("level", float(level))

    def l_made(self, role: str, level: int, target: Tensor) -> Tensor:
        """Latent image reconstruction: what follows from the finer features, against what should."""
        fine, coarse = self._scales[level + 1], self._scales[level]
        onward = self.network.onward(fine * self.made(role)[level], self.layers[level + 1], self.layers[level])
        return F.mse_loss(onward / coarse, target)

    @torch.no_grad()
    def search(self, level: int, batch: Batch) -> None:
        """Find both fields of a level, from those of the level before, and the pictures that follow."""
        x, y = (self.known(batch)[role][level] for role in ROLES)
        if level == 0:
            radius = max(*x.shape[2:], *y.shape[2:])
            a_to_b, b_to_a = (identity_field(m.shape[2:], n.shape[2:]) for m, n in ((x, y), (y, x)))
            one, two = unit(x), unit(y)
        else:
            radius = RADII[min(level, len(RADII)) - 1]
            a_to_b = self.upsampled("a", level - 1, x.shape, y.shape)
            b_to_a = self.upsampled("b", level - 1, y.shape, x.shape)
            pairs = ((x, self.made("a")), (y, self.made("b")))
            x_made, y_made = (blended(maps, made[level - 1], self.alphas[level - 1]) for maps, made in pairs)
            one = torch.cat([unit(x), unit(x_made)], 1)  # A is like B, and A' like B'
            two = torch.cat([unit(y_made), unit(y)], 1)
        self.field("a", level).copy_(patch_match(one, two, a_to_b.to(x.device), radius, iterations=self.searches))
        self.field("b", level).copy_(patch_match(two, one, b_to_a.to(x.device), radius, iterations=self.searches))
        for role, other, picture in (("a", "b", self.picture_a), ("b", "a", self.picture_b)):
            image = batch[other].image[:1].float()
            picture.copy_(vote(self.upsampled(role, level, batch[role].image.shape, image.shape), image))

    def upsampled(self, role: str, level: int, size: Sequence[int], other: Sequence[int]) -> Tensor:
        """The field of a level on finer grids, which have the shapes [N, C, H, W] of the source and the other image."""
        source = self.field("b" if role == "a" else "a", level).shape
        return upsample_field(self.field(role, level), source[2:], size[2:], other[2:])

    # Images

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        first, second = self.domains
        return (first, second), (second, first)

    def translate(self, images: Tensor, source: str, target: str) -> Tensor:
        """A', or B; only for the image that was trained on.

        Args:
            images: that image, float [N, 3, H, W] in [-1, 1].
            source: its domain.
            target: the other domain.

        Returns:
            the picture [N, 3, H, W] in [-1, 1].

        Raises:
            UserError: for other images or other directions.
        """
        pictures = (self.real_a, self.picture_a), (self.real_b, self.picture_b)
        real, picture = dict(zip(self.directions, pictures, strict=True)).get((source, target), (None, None))
        known = real is not None and real.shape[2:] == images.shape[2:] and bool((to_uint8(images) == real).all())
        if picture is None or not known:
            raise UserError(
                f"DeepImageAnalogy has made two pictures, of its images {self.domains[0]} and {self.domains[1]} in the "
                "look of each other: for other images, train it on them."
            )
        return picture.expand(len(images), -1, -1, -1)


def unit(maps: Tensor) -> Tensor:
    """Maps [N, C, h, w] with vectors of unit length at all positions."""
    return F.normalize(maps, dim=1, eps=1e-6)


def blended(known: Tensor, made: Tensor, alpha: float) -> Tensor:
    """Features made, replaced by ``alpha`` of those of the layout's image wherever that responds.

    It responds where the squared length of its vector, from 0 to 1 within the image, is at least 0.05.

    Args:
        known: maps [1, C, h, w] of the image that gives the layout.
        made: maps of the same shape.
        alpha: weight of the known ones, from 0 to 1.
    """
    energy = known.square().sum(1, keepdim=True)
    low, high = energy.amin(), energy.amax()
    weight = alpha * (energy - low >= CONFIDENT * (high - low))
    return weight * known + (1 - weight) * made
