"""Tied Output Synthesis."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch, to_float
from xdomain.engines import Engine
from xdomain.errors import refuse
from xdomain.features.helpers import Spec
from xdomain.losses import l_d, l_gang, l_parameters, total_variation
from xdomain.methods.base import Phase
from xdomain.methods.dtn import DTN
from xdomain.methods.reader import one_hot_truth
from xdomain.networks import ParameterDecoder, ParameterEncoder

EncoderFactory = Callable[[int, int, Sequence[tuple[str, int]]], nn.Module]
ImitatorFactory = Callable[[int, int, int], nn.Module]
On = Literal["G", "e", "both"]


class Tied(NamedTuple):
    """The tied outputs for some images, and what lies between them.

    Attributes:
        free: G(x), float [N, C, H, W] in [-1, 1].
        soft: c(G(x)), soft parameters [N, U].
        imitated: e(c(G(x))), float [N, C, H, W] in [-1, 1].
        parameters: c(G(x)) rounded to valid parameters u [N, P].
        drawn: E(u), the engine's own picture, float [N, C, H, W] in [-1, 1].
    """

    free: Tensor
    soft: Tensor
    imitated: Tensor
    parameters: Tensor
    drawn: Tensor


class TOS(DTN):
    """Tied Output Synthesis: an image becomes parameters of an engine, and the picture that the engine draws from them.

    Wolf, Taigman, Polyak, "Unsupervised Creation of Parameterized Avatars", ICCV 2017. G = g(f(.)) is that of
    :class:`xdomain.methods.dtn.DTN`; c reads the parameters u from G(x), and e, a network that imitates the engine,
    draws them. Training ties G(x) to e(c(G(x))), so that G draws what the engine can draw.

    Phases: ``imitate`` trains e on pictures of the engine, with softened choices, and freezes it; ``read`` trains c on
    them (c-hat of the paper's baselines; left out with 0 steps); ``tie`` trains D, then g and c together. The images of
    the second domain must be pictures of the engine whose parameters are known, such as
    :class:`xdomain.data.EnginePictures`.

    The baselines of the paper are settings: ``tie: 0`` with ``fixed_c: true`` is DTN, then c-hat; ``fixed_c: true`` is
    TOS with c-hat fixed.

    Args:
        f: see :class:`xdomain.methods.dtn.DTN`.
        engine: the engine.
        c: builds c from (image channels, image size, layout of the parameters).
        imitator: builds e from (size of the soft parameters, image channels, image size).
        imitator_steps: batches of the phase ``imitate``.
        read_steps: batches of the phase ``read``.
        steps: batches of the phase ``tie``.
        tie: weight of L_c, the mean squared difference of G(x) and e(c(G(x))).
        ramp: batches in which this weight rises from 0, so that g learns the style before it is tied.
        detach: keep L_c from g: c then inverts whatever G draws.
        fixed_c: leave c as ``read`` made it.
        soften: largest share of a choice that the phase ``imitate`` spreads over its values, from 0 to 0.5; see
            :meth:`xdomain.engines.Schema.soften`.
        const_on: whose L_CONST is measured: that of G(x), of e(c(G(x))), or the mean of both.
        gan_on: which of them D judges.
        c_supervised: weight of :func:`xdomain.losses.l_parameters` of c on the engine's pictures, while tying.
        e_cycle: the same on the pictures that e draws from their parameters.
        imitator_optimizer: builds the optimiser of e; None uses ``optimizer``.
        options: see :class:`xdomain.methods.dtn.DTN`, of which ``encoder`` is always ``f``.
    """

    def __init__(
        self,
        f: str | Spec,
        engine: Engine,
        c: EncoderFactory = ParameterEncoder,
        imitator: ImitatorFactory = ParameterDecoder,
        imitator_steps: int = 4000,
        read_steps: int = 0,
        steps: int = 10000,
        tie: float = 10.0,
        ramp: int = 1000,
        detach: bool = False,
        fixed_c: bool = False,
        soften: float = 0.5,
        const_on: On = "G",
        gan_on: On = "G",
        c_supervised: float = 0.0,
        e_cycle: float = 0.0,
        imitator_optimizer: OptimizerCallable | None = None,
        **options: Any,
    ) -> None:
        super().__init__(f, **options)
        for name, value, least in (
            ("imitator_steps", imitator_steps, 1),
            ("read_steps", read_steps, 0),
            ("steps", steps, 1),
        ):
            if value < least:
                refuse(self, name, value, f"give a number of batches of at least {least}.")
        if self.hparams.get("encoder", "f") != "f":
            refuse(self, "encoder", "learned", ", but G of TOS is g(f(.)): leave it out.")
        if not 0 <= soften <= 0.5:
            refuse(self, "soften", soften, "give a share from 0 to 0.5.")
        if fixed_c and not read_steps:
            refuse(self, "fixed_c", "true", ", but c is trained in no phase: set read_steps above 0.")
        if self.channels[1] != engine.channels:
            reason = f", which draws {engine.channels} channels, but {self.domains[1]} has {self.channels[1]}"
            refuse(self, "engine", engine.name, f"{reason}: give the engine of this domain.")
        self.engine = engine
        self.imitator_steps, self.read_steps, self.steps = imitator_steps, read_steps, steps
        self.tie, self.ramp, self.detach, self.fixed_c, self.soften = tie, ramp, detach, fixed_c, soften
        self.const_on, self.gan_on, self.c_supervised, self.e_cycle = const_on, gan_on, c_supervised, e_cycle
        self.imitator_optimizer = imitator_optimizer
        schema, channels, size = engine.schema, engine.channels, self.image_size
        self.c = c(channels, size, schema.layout)
        self.imitator = imitator(schema.size, channels, size)  # e of the paper

    def build_phases(self) -> tuple[Phase, ...]:
        read = (Phase("read", self.read_steps, ("c",)),) if self.read_steps else ()
        return Phase("imitate", self.imitator_steps, ("e",)), *read, Phase("tie", self.steps, ("d", "g"))

    def build_optimizers(self) -> dict[str, Optimizer]:
        tied = [*self.g.parameters(), *(() if self.fixed_c else self.c.parameters())]
        return {
            "e": (self.imitator_optimizer or self.optimizer)(self.imitator.parameters()),
            "c": self.optimizer(self.c.parameters()),
            "d": (self.d_optimizer or self.optimizer)(self.D.parameters()),
            "g": self.optimizer(tied),
        }

    def on_fit_start(self) -> None:
        """Load f as DTN does, and the parameters of the engine's pictures."""
        super().on_fit_start()
        self._truth = one_hot_truth(self, self.data, "b", "train", self.engine)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Frozen networks stay in evaluation mode."""
        self.imitator.train(self.phase.name == "imitate")
        self.c.train(self.phase.name == "read" or not self.fixed_c)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        t = batch["b"].image
        u = self._truth[batch["b"].position]
        if self.phase.name == "imitate":
            soft = self.engine.schema.soften(u, self.soften)
            self.log("l_e", self.step("e", lambda: F.mse_loss(self.imitator(soft), t)), prog_bar=True)
        elif self.phase.name == "read":
            self.log("l_hat", self.step("c", lambda: self.l_read(t, u)), prog_bar=True)
        else:
            self.tie_outputs(batch, u)

    def tie_outputs(self, batch: Batch, u: Tensor) -> None:
        """One batch of the phase ``tie``: D, then g and c.

        Args:
            batch: images of both domains.
            u: one-hot parameters [N, U] of those of the second.
        """
        t = batch["b"].image
        h_s, h_t = self._features_of(batch, "a"), self._features_of(batch, "b")
        with self.updating("g"):  # one graph for both updates, without weight gradients of what is frozen
            y_s, y_t = self.generate(batch, h_s, h_t)
            v_s = self.imitator(self.c(y_s.detach() if self.detach else y_s))  # e(c(G(x)))
        fakes = chosen(self.gan_on, y_s, v_s)

        def discriminator_loss() -> Tensor:
            fake_s, fake_t, real_t = self.D(fakes.detach()), self._fake_b(y_t.detach()), self.D(t)
            if self.logs_now:
                self._log_hits(fake_s, fake_t, real_t)
            return l_d(fake_s, fake_t, real_t)

        def generator_loss() -> Tensor:
            losses = {
                "l_c": (self.tie_weight, F.mse_loss(y_s.detach() if self.detach else y_s, v_s)),
                "l_const": (self.alpha, self.l_const_of(h_s, y_s, v_s)),
                "l_tid": (self.beta, F.mse_loss(y_t, t)),
            }
            if self.gan != "none":
                losses["l_gang"] = 1.0, l_gang(self.D(fakes), self._fake_b(y_t))
            if self.gamma:
                losses["l_tv"] = self.gamma, total_variation(y_s)
            if self.c_supervised and not self.fixed_c:
                losses["l_read"] = self.c_supervised, self.l_read(t, u)
            if self.e_cycle and not self.fixed_c:
                losses["l_e_cycle"] = self.e_cycle, self.l_read(self.imitator(u), u)
            self.log_dict({name: loss.detach() for name, (_, loss) in losses.items()})
            return torch.stack([weight * loss for weight, loss in losses.values()]).sum()

        if self.gan != "none":
            self.log("l_d", self.step("d", discriminator_loss), prog_bar=True)
        self.log("l_g", self.step("g", generator_loss), prog_bar=True)

    @property
    def tie_weight(self) -> float:
        """Weight of L_c in the current batch."""
        done = self.trainer.global_step - self.imitator_steps - self.read_steps
        return self.tie * min(1.0, (done + 1) / (self.ramp + 1))

    def l_read(self, images: Tensor, u: Tensor) -> Tensor:
        """How far c reads from the true one-hot parameters [N, U] of images."""
        return l_parameters(self.c.raw(images), u, self.engine.schema.layout)  # type: ignore[operator]

    def l_const_of(self, h_s: Tensor, y_s: Tensor, v_s: Tensor) -> Tensor:
        """L_CONST of G(x), of e(c(G(x))), or the mean of both."""
        return self.l_const(h_s.repeat(2, 1) if self.const_on == "both" else h_s, chosen(self.const_on, y_s, v_s))

    # The trained method

    @torch.no_grad()
    def tied(self, images: Tensor) -> Tied:
        """Both outputs for images [N, C, H, W] in [-1, 1] of either domain, in evaluation mode."""
        free, soft, imitated = self._imitated(images)
        u = self.engine.schema.from_one_hot(soft.float())
        return Tied(free, soft, imitated, u, self.draw(u))

    def _imitated(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """G(x), c(G(x)) and e(c(G(x))) in evaluation mode."""
        was = {network: network.training for network in (self.c, self.imitator)}
        free = self.free(images, self.domains[0], self.domains[1])
        try:
            soft = self.c.eval()(free)
            return free, soft, self.imitator.eval()(soft)
        finally:
            for network, training in was.items():
                network.train(training)

    def read(self, images: Tensor) -> Tensor:
        """Parameters u [N, P] of images [N, C, H, W] in [-1, 1] of either domain."""
        return self.tied(images).parameters

    def draw(self, u: Tensor) -> Tensor:
        """The engine's pictures, float [N, C, H, W] in [-1, 1], of parameters [N, P]."""
        return to_float(self.engine.render(u.cpu(), self.image_size).to(u.device))

    @property
    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {"transfer": self.translate, "free": self.free, "imitated": self.imitated}

    def not_exported(self, task: str) -> str:
        reason = "its last step is the engine, which is no network: export the task imitated, or free"
        return reason if task == "transfer" else ""

    def translate(self, images: Tensor, source: str, target: str) -> Tensor:
        """The picture that the engine draws from the parameters that are read, E(c(G(x))).

        Raises:
            UserError: for another target than the engine's domain.
        """
        self.check_target(target)
        return self.tied(images).drawn

    def free(self, images: Tensor, source: str, target: str) -> Tensor:
        """The free output G(x) of TOS, which no engine has drawn."""
        return super().translate(images, source, target)

    def imitated(self, images: Tensor, source: str, target: str) -> Tensor:
        """The picture that the imitator e of TOS draws from soft parameters, e(c(G(x)))."""
        self.check_target(target)
        with torch.no_grad():
            return self._imitated(images)[2]


def chosen(on: On, y: Tensor, v: Tensor) -> Tensor:
    """Free outputs y, tied ones v, or both in one batch."""
    return {"G": y, "e": v}[on] if on != "both" else torch.cat([y, v])
