"""The Domain Transfer Network."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch, to_channels
from xdomain.data.base import BaseDataModule
from xdomain.data.sampler import EpochBatchSampler
from xdomain.errors import UserError, refuse
from xdomain.features.cache import FeatureCache
from xdomain.features.helpers import Helper, Spec
from xdomain.losses import l_d, l_gang, total_variation
from xdomain.losses.dtn import FAKE_A, FAKE_B, REAL_B
from xdomain.methods.base import Method
from xdomain.networks import ConvDiscriminator, ConvEncoder, UpConvDecoder

DecoderFactory = Callable[[int, int, int], nn.Module]
DiscriminatorFactory = Callable[[int, int], nn.Module]


class DTN(Method):
    """Domain Transfer Network: G = g(f(.)) maps domain a into domain b while f sees the same content.

    Taigman, Polyak, Wolf, "Unsupervised Cross-Domain Image Generation", ICLR 2017; (n) are its equations.

    Every ablation of the paper is a setting: ``alpha: 0`` (no L_CONST), ``beta: 0`` (no L_TID), ``gan: none``,
    ``gan: binary``, ``encoder: learned`` (G without f).

    Args:
        f: recipe or checkpoint of the classifier whose features are f, or a network of another library with the path of
            its weights; see :class:`xdomain.features.helpers.Helper`.
        g: builds g from (feature dimension, image channels, image size).
        D: builds D from (image channels, image size).
        alpha: weight of L_CONST.
        beta: weight of L_TID.
        gamma: weight of L_TV, summed over pixels.
        gan: ``ternary`` as in the paper, ``binary`` as in its baseline of section 3, or ``none``.
        encoder: ``f``, or ``learned`` for an encoder of the same output size that is trained with g.
        feature_norm: normalisation of f's features: ``none``, ``tanh``, ``standardize`` (per-dimension mean and
            variance over the training images of domain a) or ``unit`` (ReLU, then length sqrt(dim)). With the last two,
            alpha means the same for any f.
        posterior: length, relative to that of the features, of f's class posterior (softmax at temperature 2), which is
            appended to the features if not 0. The posterior depends only on what distinguishes the classes, and so
            separates shapes of another domain that the features alone confuse.
        const_distance: distance of L_CONST: ``mse`` (mean over dimensions) or ``cosine`` (1 - similarity).
        view: random transform of the translations before f in L_CONST. A translation must then be recognised under all
            transforms, and g cannot satisfy f with an adversarial pattern.
        d_optimizer: builds the optimiser of D; None uses ``optimizer`` for both.
        cache_features: compute f of every training image only once; has an effect only without augmentation.
        options: see :class:`Method`.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(
        self,
        f: str | Spec,
        g: DecoderFactory = UpConvDecoder,
        D: DiscriminatorFactory = ConvDiscriminator,
        alpha: float = 15.0,
        beta: float = 15.0,
        gamma: float = 0.0,
        gan: Literal["ternary", "binary", "none"] = "ternary",
        encoder: Literal["f", "learned"] = "f",
        feature_norm: Literal["none", "tanh", "standardize", "unit"] = "none",
        posterior: float = 0.0,
        const_distance: Literal["mse", "cosine"] = "mse",
        view: nn.Module | None = None,
        d_optimizer: OptimizerCallable | None = None,
        cache_features: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if len(self.domains) != 2:
            kind, count = type(self).__name__, len(self.domains)
            raise UserError(f"{kind} translates between two domains, but the data has {count}: use a pair.")
        self.alpha, self.beta, self.gamma, self.gan = alpha, beta, gamma, gan
        self.feature_norm, self.const_distance, self.cache_features = feature_norm, const_distance, cache_features
        self.posterior, self.view, self.d_optimizer = posterior, view, d_optimizer
        channels = self.channels[1]
        self.f = Helper(f)
        if posterior and not self.f.classes:
            refuse(self, "posterior", posterior, ", but this f has features and no classes: leave it out.")
        dim = self.f.dim + (self.f.classes if posterior else 0)
        self.e = ConvEncoder(3, dim, self.image_size) if encoder == "learned" else None
        self.g = g(dim, channels, self.image_size)
        self.D = D(channels, self.image_size)
        self.register_buffer("feature_mean", torch.zeros(self.f.dim))
        self.register_buffer("feature_std", torch.ones(self.f.dim))
        self._cache: dict[str, FeatureCache] = {}

    # f, frozen

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features [N, dim] of images [N, C, H, W] in [-1, 1] as used by g and L_CONST, without gradient."""
        return self._transformed(self.f.features(images))

    def _transformed(self, features: Tensor) -> Tensor:
        """Features [N, dim] of f as used by g and L_CONST: normalised, with the posterior appended."""
        h = features
        if self.feature_norm == "tanh":
            h = features.tanh()
        elif self.feature_norm == "standardize":
            h = (features - self.feature_mean) / self.feature_std
        elif self.feature_norm == "unit":
            h = F.normalize(features.relu()) * self.f.dim**0.5
        if self.posterior:
            classes = (self.f.classify(features) / 2).softmax(1) * self.f.dim**0.5
            h = torch.cat([h, self.posterior * classes], 1)
        return h

    def _fetch(self) -> None:
        self.f.fetch(self.trainer.strategy, self.data.root)

    def on_fit_start(self) -> None:
        """Load f and compute the statistics of its features; the features of images without augmentation are cached."""
        self._fetch()
        data = self.data
        features = {role: self._features(data, role) for role in data.roles}
        if self.feature_norm == "standardize":
            a = features["a"].all(self.device)
            self.feature_mean.copy_(a.mean(0))
            self.feature_std.copy_(a.std(0).clamp_min(1e-3))
        kept = [role for role in data.roles if self.cache_features and data.augmentation(role) is None]
        self._cache = {role: features[role] for role in kept}

    on_validation_start = on_test_start = on_predict_start = _fetch

    def _features(self, data: BaseDataModule, role: str) -> FeatureCache:
        """Cache of f's features of a role's training images, filled batch by batch in the first epoch."""
        images, stream = data.data(role, "train"), data.roles.index(role)
        ranks = (self.global_rank, self.trainer.world_size)
        order = EpochBatchSampler(len(images), len(images), data.batch_size, data.seed, stream, *ranks)
        return FeatureCache(images, order.first_batches(), self.f.features)

    @torch.no_grad()
    def _features_of(self, batch: Batch, role: str) -> Tensor:
        if role not in self._cache:
            return self.features(batch[role].image)
        with torch.autocast(self.device.type, enabled=False):
            return self._transformed(self._cache[role].of(batch[role].position))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Describe f by its network: the checkpoint holds its weights and loads without the helper's recipe."""
        super().on_save_checkpoint(checkpoint)
        network = type(self.f.network)  # the full path: jsonargparse resolves bare names only below typed settings
        spec = {**self.f.spec, "class_path": f"{network.__module__}.{network.__qualname__}"}
        checkpoint["hyper_parameters"]["f"] = spec

    # Training

    def build_optimizers(self) -> dict[str, Optimizer]:
        g = [*self.g.parameters(), *(self.e.parameters() if self.e else ())]
        return {"d": (self.d_optimizer or self.optimizer)(self.D.parameters()), "g": self.optimizer(g)}

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x_b = batch["b"].image
        h_a, h_b = self._features_of(batch, "a"), self._features_of(batch, "b")  # f never changes
        y_a, y_b = self.generate(batch, h_a, h_b)  # one forward pass for both updates

        def discriminator_loss() -> Tensor:
            fake_a, fake_b, real_b = self.D(y_a.detach()), self._fake_b(y_b.detach()), self.D(x_b)
            if self.logs_now:
                self._log_hits(fake_a, fake_b, real_b)
            return l_d(fake_a, fake_b, real_b)  # (3)

        def generator_loss() -> Tensor:
            losses = {"l_const": self.l_const(h_a, y_a), "l_tid": F.mse_loss(y_b, x_b)}  # (5), (6)
            total = self.alpha * losses["l_const"] + self.beta * losses["l_tid"]
            if self.gan != "none":
                losses["l_gang"] = l_gang(self.D(y_a), self._fake_b(y_b))  # (4)
                total = total + losses["l_gang"]
            if self.gamma:
                losses["l_tv"] = total_variation(y_a) + total_variation(y_b)  # (7)
                total = total + self.gamma * losses["l_tv"]
            self.log_dict({name: loss.detach() for name, loss in losses.items()})
            return total

        if self.gan != "none":
            self.log("l_d", self.step("d", discriminator_loss), prog_bar=True)
        self.log("l_g", self.step("g", generator_loss), prog_bar=True)

    def generate(self, batch: Batch, h_a: Tensor, h_b: Tensor) -> tuple[Tensor, Tensor]:
        """G of both domains in one pass: BatchNorm then trains on the mixture that its running statistics describe."""
        codes = [self.code(batch[role].image, h) for role, h in (("a", h_a), ("b", h_b))]
        y_a, y_b = self.g(torch.cat(codes)).split([len(h_a), len(h_b)])
        return y_a, y_b

    def code(self, images: Tensor, features: Tensor) -> Tensor:
        """Input of g: the features of f, or those of the learned encoder."""
        return features if self.e is None else self.e(to_channels(images, 3))

    def l_const(self, features: Tensor, translated: Tensor) -> Tensor:
        """L_CONST = E d(f(x_s), f(G(x_s))), (5)."""
        seen = self._transformed(self.f.features(translated if self.view is None else self.view(translated)))
        if self.const_distance == "cosine":
            return 1 - F.cosine_similarity(seen, features).mean()
        return F.mse_loss(seen, features)

    def _fake_b(self, images: Tensor) -> Tensor | None:
        return self.D(images) if self.gan == "ternary" else None

    def _log_hits(self, fake_a: Tensor, fake_b: Tensor | None, real_b: Tensor) -> None:
        """Log the accuracy of D on each of its classes."""
        for name, logits, label in (("fake_a", fake_a, FAKE_A), ("fake_b", fake_b, FAKE_B), ("real_b", real_b, REAL_B)):
            if logits is not None:
                self.log(f"d_accuracy/{name}", (logits.argmax(1) == label).float().mean())

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        return tuple((domain, self.domains[1]) for domain in self.domains)

    def translate(self, images: Tensor, source: str, target: str) -> Tensor:
        """Translate by G = g(f(.)) from any domain into the last one, in evaluation mode.

        Raises:
            UserError: for another target: DTN has only one generator.
        """
        self.check_target(target)
        training = self.g.training
        self.eval()
        try:
            translated: Tensor = self.g(self.code(images, self.features(images)))
        finally:
            self.train(training)
        return translated

    def check_target(self, target: str) -> None:
        """Raise a UserError for any target but the last domain."""
        if target != self.domains[1]:
            raise UserError(f"this {type(self).__name__} translates into {self.domains[1]} only, not into {target!r}.")
