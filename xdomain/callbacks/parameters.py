"""Evaluation of parameters that are read from images, and of the pictures that an engine draws from them."""

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from xdomain.batch import Batch
from xdomain.callbacks.evaluation import BatchEvaluation
from xdomain.data.base import Split
from xdomain.engines import Engine
from xdomain.errors import UserError
from xdomain.methods import TOS, Method, ParameterReader
from xdomain.metrics.parameters import ParameterErrors

TIES = ("tie/free_imitated", "tie/imitated_drawn", "tie/free_drawn")


class ParameterRecovery(BatchEvaluation):
    """Are the parameters that are read from an image the true ones, and do they draw what the method shows?

    N is a parameter of the engine. The truth is known where the images are drawn; of images with labels alone it is
    that of the engine's ``label``.

    =============================  =================================================================================
    ``right/N``                    share of images in which the choice N is right
    ``error/N``                    mean absolute error of the number N, as a share of its range
    ``attribute/A``                share in which the attribute A of the engine is right, such as ``Eyeglasses``
    ``degrees/N``                  of the periodic N, modulo its symmetry; the whole range is 360 degrees
    ``tie/free_imitated``          mean squared difference of G(x) and e(u), on [-1, 1]
    ``tie/imitated_drawn``         the imitator gap: of e(u) and E(u), with u rounded
    ``tie/free_drawn``             of G(x) and E(u)
    ``undecided``                  share of choices of which no value has 90 % before rounding
    ``psnr_e``                     of e against E on the pictures of this part, in dB
    ``f_distance``                 mean squared distance of the features of x and of E(u)
    =============================  =================================================================================

    The test repeats all but those of ties and of e with ``_random``, for the parameters of another picture, and
    ``_mean``, for the mean parameters of the engine's training pictures; ``f_distance_true`` is that of the true
    parameters, where all are known. ``n`` is the number of images.
    """

    def check(self, module: Method, split: Split) -> None:
        if not isinstance(module, (TOS, ParameterReader)):
            kind = type(module).__name__
            raise UserError(f"ParameterRecovery is for TOS and ParameterReader, not for {kind}: remove it.")
        self.truth = module.data.drawn_from("a", split, module.engine.schema)
        self.label = module.engine.label
        if self.truth is None and (self.label is None or module.data.data("a", split).labels is None):
            raise UserError(
                f"ParameterRecovery needs images whose parameters or labels are known, but {module.domains[0]} has "
                "neither: remove it."
            )

    @torch.no_grad()
    def begin(self, trainer: pl.Trainer, module: Method) -> None:
        assert isinstance(module, (TOS, ParameterReader))
        split: Split = "test" if trainer.testing else "val"
        engine, device = module.engine, module.device
        self.truth = module.data.drawn_from("a", split, engine.schema)
        tied = isinstance(module, TOS)
        self.nulls = _nulls(module) if trainer.testing and isinstance(module, TOS) else {}
        names = None if self.truth is not None else [str(engine.label)]
        self.errors = {n: ParameterErrors(engine.schema, names).to(device) for n in ("", *self.nulls)}
        means = [*TIES, "undecided", "mse_e", "f_distance"] if tied else []
        means += [f"f_distance{name}" for name in self.nulls]
        if self.nulls and self.truth is not None:
            means.append("f_distance_true")
        self.attributes = tuple(engine.attributes(self.truth[:1])) if self.truth is not None else ()
        means += [f"attribute{suffix}/{name}" for suffix in self.errors for name in self.attributes]
        self.means = {name: MeanMetric().to(device) for name in means}
        self.pictures = module.data.drawn_from("b", split, engine.schema) if tied else None

    @torch.no_grad()
    def add(self, module: Method, batch: Batch, testing: bool) -> None:
        assert isinstance(module, (TOS, ParameterReader))
        schema = module.engine.schema
        if (b := batch.get("b")) is not None and isinstance(module, TOS) and self.pictures is not None:
            imitated = module.imitator(schema.one_hot(self.pictures[b.position.cpu()]).to(module.device))
            self.means["mse_e"].update(_squares(imitated, b.image))
        if (a := batch.get("a")) is None:
            return
        truth = self._truth_of(a.position, a.label, module.engine)
        if isinstance(module, ParameterReader):
            self._compare("", module.read(a.image), truth, module.engine)
            return
        tied = module.tied(a.image)
        self._compare("", tied.parameters, truth, module.engine)
        pairs = ((tied.free, tied.imitated), (tied.imitated, tied.drawn), (tied.free, tied.drawn))
        for name, (one, other) in zip(TIES, pairs, strict=True):
            self.means[name].update(_squares(one, other))
        choices = [p.name for p in schema.parameters if p.kind == "choice"]
        unsure = [(tied.soft[:, schema.slices[name]].amax(1) < 0.9).float() for name in choices]
        self.means["undecided"].update(torch.stack(unsure))
        features = module.features(a.image)
        drawn = {"": tied.drawn}
        for name, rows in self.nulls.items():
            u = rows[a.position.cpu() % len(rows)].to(module.device)
            self._compare(name, u, truth, module.engine)
            drawn[name] = module.draw(u)
        if "f_distance_true" in self.means:
            drawn["_true"] = module.draw(truth)
        for name, picture in drawn.items():
            self.means[f"f_distance{name}"].update((module.features(picture) - features).square().mean(1))

    def _compare(self, suffix: str, u: Tensor, truth: Tensor, engine: Engine) -> None:
        self.errors[suffix].update(u, truth)
        if self.attributes:
            found, true = engine.attributes(u), engine.attributes(truth)
            for name in self.attributes:
                self.means[f"attribute{suffix}/{name}"].update((found[name] == true[name]).float())

    def _truth_of(self, position: Tensor, label: Tensor | None, engine: Engine) -> Tensor:
        """Parameters [n, P] of images; only the labelled choice where no more is known."""
        if self.truth is not None:
            return self.truth[position.cpu()].to(position.device)
        assert label is not None
        assert engine.label is not None
        u = torch.zeros(len(label), len(engine.schema), device=label.device)
        u[:, engine.schema.index(engine.label)] = label.float()
        return u

    def report(self, trainer: pl.Trainer, testing: bool) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        for suffix, metric in self.errors.items():
            for name, value in metric.compute().items():
                kind, _, of = name.partition("/")
                values[f"{kind}{suffix}/{of}"] = value
            if testing and not suffix:
                values["n"] = metric.count.float()
        for name, mean in self.means.items():
            values[name] = mean.compute()
        if "mse_e" in values:
            values["psnr_e"] = 10 * (4 / values.pop("mse_e")).log10()
        return values


def _squares(one: Tensor, other: Tensor) -> Tensor:
    """Mean squared difference of every picture, [n]."""
    return (one.float() - other.float()).square().mean((1, 2, 3))


def _nulls(module: TOS) -> dict[str, Tensor]:
    """Parameters that never look at an image: those of the engine's test pictures, and the mean of the training's."""
    schema = module.engine.schema
    other, seen = (module.data.drawn_from("b", split, schema) for split in ("test", "train"))
    assert other is not None
    assert seen is not None
    other = other.roll(len(other) // 2, 0)  # the pictures can be of the very people of the photos, in the same order
    return {"_random": other, "_mean": schema.from_one_hot(schema.one_hot(seen).mean(0, keepdim=True))}
