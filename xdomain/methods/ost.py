"""One-shot translation: one image of a domain, many of another."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock
from pytorch_lightning.utilities import rank_zero_info
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain import __version__
from xdomain.batch import Batch
from xdomain.data.base import PIECE, ImageData
from xdomain.data.sampler import derive_seed
from xdomain.errors import UserError, refuse
from xdomain.losses import lsgan
from xdomain.methods.base import Phase, is_plain
from xdomain.methods.translation import DiscriminatorFactory, TranslationMethod
from xdomain.networks import ImagePool, PatchDiscriminator
from xdomain.networks.ost import DrawingAutoencoders, SharedAutoencoders
from xdomain.paths import cache_dir
from xdomain.running.resume import begin_after, planned_batches
from xdomain.running.weights import is_whole, keep_weights

AutoencoderFactory = Callable[[tuple[int, int]], SharedAutoencoders]
"""Makes the autoencoders from the channels of both domains."""

PHASE_VERSION = 1
"""Raise it with every change of what phase I computes: kept weights of before are then trained again."""


class OST(TranslationMethod):
    """One-shot translation of an image x of the first domain into the second, of which there are many.

    Benaim, Wolf, "One-Shot Unsupervised Cross Domain Translation", NeurIPS 2018. Phase I trains an autoencoder of the
    second domain. Phase II fits private outer layers to x: its losses reach no layer that both domains share
    ("selective backpropagation"), which go on learning from the second domain.

    The weights of phase I are kept in the cache folder, named by a hash of all that they depend on: images and settings
    of the second domain, networks, optimisers, seeds. A new training that finds them begins with phase II, as if it had
    trained phase I itself. Phase II begins with an empty pool, and with random numbers from the seed of the data.

    The authors' code has two forms that differ in more than their networks: ``protocol`` chooses one.

    =========================  ==============================  ========================================
    of the authors' code       ``digits``                      ``drawing``
    =========================  ==============================  ========================================
    distances                  squared                         absolute
    weights                    1; of codes 0.1                 10 in phase I and of the cycle, else 1
    adversaries                both domains                    second domain, also of reconstructions
    losses of x reach          outer layers of both domains    outer layers of the first domain
    updates of discriminators  first real, then fake images    together, from a pool of 50
    order in phase II          discriminators first            discriminators last
    =========================  ==============================  ========================================

    Phase I takes whole batches; a batch of phase II is x and one image of the second domain, in both forms.

    Args:
        autoencoders: makes the autoencoders from the channels of both domains.
        discriminator: makes a discriminator from the channels of its domain.
        autoencoder_steps: batches of phase I.
        steps: batches of phase II.
        protocol: which of the two forms.
        cycle: ``one_way`` (x comes back from its translation), ``two_way`` (images of the second domain as well) or
            ``none``.
        selective: keep the losses of x from the shared layers; without, they reach all layers.
        freeze_shared: leave shared layers as phase I made them.
        options: see :class:`xdomain.methods.base.Method`.
    """

    def __init__(
        self,
        autoencoders: AutoencoderFactory = DrawingAutoencoders,
        discriminator: DiscriminatorFactory = PatchDiscriminator,
        autoencoder_steps: int = 32000,
        steps: int = 32000,
        protocol: Literal["digits", "drawing"] = "drawing",
        cycle: Literal["none", "one_way", "two_way"] = "one_way",
        selective: bool = True,
        freeze_shared: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        for name, value in (("autoencoder_steps", autoencoder_steps), ("steps", steps)):
            if value < 1:
                refuse(self, name, value, "give a number of batches of at least 1.")
        if self.accumulate > 1:
            refuse(self, "accumulate", self.accumulate, ", but every batch of OST is an update: set it to 1.")
        self.autoencoder_steps, self.steps = autoencoder_steps, steps
        self.protocol, self.cycle = protocol, cycle
        self.selective, self.freeze_shared = selective, freeze_shared
        digits = protocol == "digits"
        self.distance = F.mse_loss if digits else F.l1_loss
        self.reconstruction, self.cycle_weight = (1.0, 1.0) if digits else (10.0, 10.0)
        x, y = self.channels
        self.G = autoencoders((x, y))
        self.D_pretrained = discriminator(y)  # phase II begins with fresh discriminators
        self.D_Y = discriminator(y)
        self.D_X = discriminator(x) if digits else None
        size = self.image_size
        self.pool = ImagePool(0 if digits else 50, (y, size, size))
        self._file: Path | None = None
        self._phase_one: dict[str, str] = {}

    def build_phases(self) -> tuple[Phase, ...]:
        return (
            Phase("autoencode", self.autoencoder_steps, ("pretrain", "d_pretrained")),
            Phase("one_shot", self.steps, ("x", "y", "d")),
        )

    def build_optimizers(self) -> dict[str, Optimizer]:
        first, second, shared = [*self.G.private(0)], [*self.G.private(1)], [*self.G.shared()]
        of_x = [*first, *(second if self.protocol == "digits" else [])]
        if not self.selective:
            of_x = [*first, *second, *shared]
        of_y = [] if self.freeze_shared else shared
        discriminators = [*self.D_Y.parameters(), *(self.D_X.parameters() if self.D_X is not None else ())]
        return {
            "pretrain": self.optimizer([*second, *shared]),
            "d_pretrained": self.optimizer(self.D_pretrained.parameters()),
            "x": self.optimizer(of_x),
            "y": self.optimizer([*second, *of_y]),
            "d": self.optimizer(discriminators),
        }

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        return ((self.domains[0], self.domains[1]),)

    def on_fit_start(self) -> None:
        """Refuse more than one image of the first domain; begin with phase II if phase I was trained before."""
        if (count := len(self.data.data("a", "train"))) > 1:
            raise UserError(
                f"OST learns from one image of {self.domains[0]}, but there are {count}: wrap the data in OneShot."
            )
        if self.trainer.is_global_zero:
            self._settle_phase_file(new=self.updates == 0)
        if self.updates > 0 or planned_batches(self.trainer) <= self.autoencoder_steps:
            return
        state = self.trainer.strategy.broadcast(kept_phase(self._file))
        if state is not None:
            self.load_state_dict(state, strict=False)
            begin_after(self.trainer, self.autoencoder_steps)
            self.updates = self.autoencoder_steps

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["phase_one"] = self._phase_one

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._phase_one = checkpoint.get("phase_one", {})

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Begin a phase with an empty pool and with random numbers that no earlier phase has drawn from."""
        if (step := self.trainer.global_step) in (0, self.autoencoder_steps):
            self.pool.clear()
            torch.manual_seed(derive_seed(self.data.seed, step, self.global_rank))

    def on_train_batch_end(self, *_: Any) -> None:
        """Keep the weights of phase I, which has just ended, for other trainings."""
        if self.trainer.global_step == self.autoencoder_steps and self._file is not None:
            keep_phase(self._file, self._pretrained())

    def _pretrained(self) -> dict[str, Tensor]:
        """The weights that phase II takes from phase I: shared ones and those of the second domain."""
        parts = ("G.encoder.", "G.decoder.", "G.private_encoders.1.", "G.private_decoders.1.")
        return {name: value for name, value in self.state_dict().items() if name.startswith(parts)}

    def _settle_phase_file(self, new: bool) -> None:
        """Choose the file for the weights of phase I, named by a hash of everything that they depend on.

        A resumed phase I is kept under the name that it began with; one that goes on with other settings is not kept.
        """
        start = self._start() if new else self._phase_one.get("start", "")
        digest = hashlib.sha256(f"{start}{self._phase_settings()}".encode())
        add_images(digest, self.data.data("b", "train"))
        key = digest.hexdigest()[:16]
        changed = not new and key != self._phase_one.get("key")
        self._file = None if changed else cache_dir() / "phases" / f"ost-{key}.safetensors"
        self._phase_one = {"start": start, "key": "" if changed else key}

    def _start(self) -> str:
        """A hash of the weights that phase I begins with: of the seed, the sizes, or those of another training."""
        judge = {f"D_pretrained.{name}": value for name, value in self.D_pretrained.state_dict().items()}
        digest = hashlib.sha256()
        for name, value in {**self._pretrained(), **judge}.items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _phase_settings(self) -> str:
        trainer, data = self.trainer, self.data
        G = self.G
        networks = (G.encoder, G.decoder, G.private_encoders[1], G.private_decoders[1], self.D_pretrained)
        settings = [
            *(PHASE_VERSION, __version__, self.protocol, self.autoencoder_steps, self.clip),
            *(self.hparams.get(name) for name in ("autoencoders", "discriminator")),
            *(description(network) for network in networks),
            *(self.asked_for[name] for name in ("pretrain", "d_pretrained")),
            *(data.batch_size, data.seed, description(data.augmentation("b"))),
            *(trainer.precision, trainer.world_size, trainer.limit_train_batches),
            getattr(trainer, "overfit_batches", 0),
        ]
        return repr(settings)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x, y = batch["a"].image, batch["b"].image
        if self.phase.name == "autoencode":
            self.autoencode(y)
        elif self.protocol == "digits":
            self.one_shot_digits(x[:1], y[:1])
        else:
            self.one_shot_drawing(x[:1], y[:1])

    # Phase I

    def autoencode(self, y: Tensor) -> None:
        """One batch of phase I: an autoencoder of the second domain, with a discriminator of its reconstructions."""
        D, fakes = self.D_pretrained, []

        def autoencoder_loss() -> Tensor:
            z = self.G.encode(y, 1)
            yy = self.G.decode(z, 1)
            fakes.append(yy.detach())
            return self.weighted(
                l_gan=(1, lsgan(D(yy), True)),
                l_reconstruction=(self.reconstruction, self.distance(yy, y)),
                l_code=(0.1, z.square().mean()),
            )

        if self.protocol == "digits":
            with torch.no_grad():
                yy = self.G.decode(self.G.encode(y, 1), 1)
            self.step("d_pretrained", lambda: lsgan(D(y), True))
            self.step("d_pretrained", lambda: lsgan(D(yy), False))
            self.log("l_g", self.step("pretrain", autoencoder_loss), prog_bar=True)
        else:
            self.log("l_g", self.step("pretrain", autoencoder_loss), prog_bar=True)
            fake = self.pool(fakes[0])
            self.step("d_pretrained", lambda: (lsgan(D(y), True) + lsgan(D(fake), False)) / 2)

    # Phase II

    def one_shot_digits(self, x: Tensor, y: Tensor) -> None:
        """One batch of phase II, digits: real, fake, losses of x, losses of the second domain."""
        D_X, D_Y = self.D_X, self.D_Y
        assert D_X is not None
        with self.updating("x"):  # one graph for both updates, without the gradients of what the losses must not reach
            z, w = self.G.encode(x, 0), self.G.encode(y, 1)
            xx, xy, yx = self.G.decode(z, 0), self.G.decode(z, 1), self.G.decode(w, 0)

        self.step("d", lambda: lsgan(D_X(x), True) + lsgan(D_Y(y), True))
        self.step("d", lambda: lsgan(D_X(yx.detach()), False) + lsgan(D_Y(xy.detach()), False))

        def x_loss() -> Tensor:
            losses = {
                "l_gan": (1.0, lsgan(D_Y(xy), True) + lsgan(D_X(yx), True)),
                "l_reconstruction": (1.0, self.distance(xx, x)),
            }
            return self.weighted(**losses, **self.cycles(x, y, xy, yx))

        self.log("l_x", self.step("x", x_loss), prog_bar=True)
        if not self.freeze_shared:
            self.log("l_y", self.step("y", lambda: self.y_loss(y)[0]), prog_bar=True)

    def one_shot_drawing(self, x: Tensor, y: Tensor) -> None:
        """One batch of phase II, drawing: losses of x, losses of the second domain, discriminator."""
        fakes: list[Tensor] = []

        def x_loss() -> Tensor:
            shared = self.G.decoder(self.G.encode(x, 0))  # of both decoders, whose ends alone differ
            xx, xy = (end(shared) for end in self.G.private_decoders)
            fakes.append(xy.detach())
            yx = self.G.decode(self.G.encode(y, 1), 0) if self.cycle == "two_way" else None
            return self.weighted(
                l_gan=(1.0, lsgan(self.D_Y(xy), True)),
                l_reconstruction=(1.0, self.distance(xx, x)),
                **self.cycles(x, y, xy, yx),
            )

        def y_loss() -> Tensor:
            loss, yy = self.y_loss(y)
            fakes.append(yy.detach())
            return loss + lsgan(self.D_Y(yy), True)

        self.log("l_x", self.step("x", x_loss), prog_bar=True)
        self.log("l_y", self.step("y", y_loss), prog_bar=True)
        pooled = [self.pool(fake) for fake in fakes]
        self.log("l_d", self.step("d", lambda: self.d_loss(y, pooled)), prog_bar=True)

    def d_loss(self, y: Tensor, fakes: list[Tensor]) -> Tensor:
        """Half of the least-squares terms of both fakes, each with the real images beside it."""
        real, *judged = self.D_Y(torch.cat([y, *fakes])).split(len(y))
        return torch.stack([lsgan(real, True), *(lsgan(scores, False) / 2 for scores in judged)]).sum()

    def cycles(self, x: Tensor, y: Tensor, xy: Tensor, yx: Tensor | None) -> dict[str, tuple[float, Tensor]]:
        """The cycle losses that are switched on, with their weight."""
        losses = {}
        if self.cycle != "none":
            losses["l_cycle"] = self.cycle_weight, self.distance(self.G.decode(self.G.encode(xy, 1), 0), x)
        if self.cycle == "two_way":
            assert yx is not None
            losses["l_cycle_back"] = self.cycle_weight, self.distance(self.G.decode(self.G.encode(yx, 0), 1), y)
        return losses

    def y_loss(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction and code of the second domain, and the reconstruction itself."""
        w = self.G.encode(y, 1)
        yy = self.G.decode(w, 1)
        return self.distance(yy, y) + 0.1 * w.square().mean(), yy

    def weighted(self, **losses: tuple[float, Tensor]) -> Tensor:
        """The sum of losses with their weights; each is logged."""
        self.log_dict({name: loss.detach() for name, (_, loss) in losses.items()})
        return torch.stack([weight * loss for weight, loss in losses.values()]).sum()

    def generate(self, images: Tensor, target: str) -> Tensor:
        return self.G.decode(self.G.encode(images, 0), 1)


def kept_phase(file: Path | None) -> dict[str, Tensor] | None:
    """The weights of a first phase if they are kept in the file, with a word about it."""
    if file is None or not file.exists():
        return None
    if not is_whole(file):
        rank_zero_info(f"the first phase kept in {file} is damaged and is trained again.")
        return None
    rank_zero_info(f"the first phase is not trained again: its weights are those in {file}.")
    return load_file(file)


def keep_phase(file: Path, state: dict[str, Tensor]) -> None:
    """Keep the weights of a first phase, unless they are kept already or not finite; failing only costs time later."""
    if not all(bool(value.isfinite().all()) for value in state.values()):
        return  # the loop ends the training
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):  # weights and card of one process
            if not is_whole(file):
                keep_weights(file, state, version=__version__)
    except (OSError, UserError) as error:
        rank_zero_info(
            f"the first phase is not kept for other trainings ({error}): make room in {file.parent}, or let the "
            "environment variable XDOMAIN_CACHE name another folder."
        )


def description(module: nn.Module | None) -> list[Any]:
    """Kinds and plain settings of a module and of all modules inside, e.g. of transforms that do not print theirs."""
    return [
        (name, repr(inside), {k: v for k, v in vars(inside).items() if not k.startswith("_") and is_plain(v)})
        for name, inside in (module.named_modules() if module is not None else ())
    ]


def add_images(digest: "hashlib._Hash", data: ImageData) -> None:
    """Add images to a hash, some at a time: they may not fit into memory."""
    for begin in range(0, len(data), PIECE):
        images = data.__getitems__([*range(begin, min(begin + PIECE, len(data)))]).image
        digest.update(repr(images.shape).encode())
        digest.update(images.numpy().data)
