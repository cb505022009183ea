"""Evaluation and pictures of methods that change attributes of images by name."""

from collections.abc import Sequence

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from xdomain.callbacks.content_checks import rule_of
from xdomain.callbacks.evaluation import DrawnEvaluation, build_judge, fetch_judge
from xdomain.callbacks.pictures import NamedPictures, grid_of
from xdomain.callbacks.reading import limited, part_of, pieces, read, share, spread
from xdomain.data.attributes import truth
from xdomain.data.base import ImageData, Split
from xdomain.errors import UserError, refuse
from xdomain.features.helpers import Helper, helper_targets
from xdomain.methods import Method
from xdomain.methods.editor import AttributeEditor
from xdomain.metrics.attributes import AttributeHitRate
from xdomain.metrics.counterfactual import CounterfactualError
from xdomain.metrics.verification import IdentitySimilarity


class AttributeEdits(DrawnEvaluation):
    """Whether edits by name reach the wanted attribute and keep the others and the person.

    Each attribute is added to images that lack it and taken away from those that have it, alone. A classifier of
    attributes judges the results; what it does not know is not measured. E is an edit, such as ``+Eyeglasses``; without
    E, the mean over all edits.

    =======================  =======================================================================================
    ``reached/E``            share of edited images in which the classifier sees the attribute as wanted
    ``kept/E``               share of the other attributes that it sees as the image has them, without those that
                             exclude the changed one
    ``identity/E``           cosine similarity of the features of ``embedder`` to those of the image; in the test
    ``psnr``, ``ssim``       between images and their reconstructions, edited to the attributes that they have
    =======================  =======================================================================================

    In the test the first three also stand with ``_untouched``, for the images as they are, and with ``_random``, for
    real images with the wanted attribute in their place; ``n/E`` is the number of images.

    Args:
        attributes: recipe or checkpoint of a classifier of attributes that knows some of the method's.
        embedder: recipe or checkpoint of a network whose features encode identity.
        strength: strength of the edits.
        count: images per edit in the test.
        val_count: images per edit in a validation.
        seed: seed of the choice of images.
    """

    def __init__(
        self,
        attributes: str,
        embedder: str | None = None,
        strength: float = 1.0,
        count: int = 300,
        val_count: int = 50,
        seed: int = 0,
    ) -> None:
        for name, value in (("count", count), ("val_count", val_count)):
            if value < 1:
                refuse(self, name, value, "give a number of images of at least 1.")
        self.attributes, self.embedder, self.strength = attributes, embedder, strength
        self.count, self.val_count, self.seed = count, val_count, seed
        self.judge: Helper | None = None
        self.features: Helper | None = None

    def check(self, module: Method, split: Split) -> None:
        method = editor(self, module)
        self.targets = helper_targets(self.attributes)
        if not {*method.names} & {*self.targets}:
            known = f", which knows {', '.join(self.targets)}, but the method changes {', '.join(method.names)}"
            refuse(self, "attributes", self.attributes, f"{known}: give another.")
        names = method.attributed().attribute_names
        rules = {target: method.attributes.get(target) or rule_of(target, names) for target in self.targets}
        self.rules = {target: rule for target, rule in rules.items() if rule}
        self.judge = self.judge or build_judge(self.attributes)
        if self.embedder is not None:
            self.features = self.features or build_judge(self.embedder)

    def measure(self, trainer: pl.Trainer, module: Method) -> dict[str, Tensor]:
        method = editor(self, module)
        self.judge = fetch_judge(self.judge or build_judge(self.attributes), trainer, module)
        if self.embedder is not None and trainer.testing:
            self.features = fetch_judge(self.features or build_judge(self.embedder), trainer, module)
        images = method.data.data("a", part_of(trainer))
        assert images.attributes is not None
        own = method.own(torch.from_numpy(images.attributes)).numpy() > 0
        values, means = self._reconstructed(trainer, method, images), dict[str, list[Tensor]]()
        for number, name in enumerate(method.names):
            for wanted in (True, False) if name in self.targets else ():
                rows, others = (np.flatnonzero(own[:, number] == side) for side in (not wanted, wanted))
                edit = f"{'+' if wanted else '-'}{name}"
                if len(rows) and len(others):
                    found = self._measured(trainer, method, images, edit, self._drawn(trainer, rows, others))
                    values |= {f"{key}/{edit}": value for key, value in found.items()}
                    for key, value in found.items():
                        means.setdefault(key, []).append(value)
        values |= {key: torch.stack(found).mean() for key, found in means.items() if key != "n"}
        return {name: value.float() for name, value in values.items()}

    def _drawn(self, trainer: pl.Trainer, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """This process's share of images and of others in their place, int64 [N, 2]."""
        rng, count = np.random.default_rng(self.seed), self.count if trainer.testing else self.val_count
        count = limited(trainer, min(len(rows), count), self._size(trainer))
        chosen = rng.permutation(rows)[:count], rng.choice(others, count)
        mine: np.ndarray = np.stack(chosen, 1)[share(trainer, count)]
        return mine

    @staticmethod
    def _size(trainer: pl.Trainer) -> int:
        return int(trainer.datamodule.eval_batch_size)  # type: ignore[attr-defined]

    def _measured(
        self, trainer: pl.Trainer, module: AttributeEditor, images: ImageData, edit: str, rows: np.ndarray
    ) -> dict[str, Tensor]:
        name, device = edit[1:], module.device
        excluded = {other for group in module.exclusive if name in group for other in group}
        others = [other for other in self.rules if other != name and other not in excluded]
        suffixes = ["", *(["_untouched", "_random"] if trainer.testing else [])]
        reached = {suffix: AttributeHitRate([name]).to(device) for suffix in suffixes}
        kept = {suffix: AttributeHitRate(others).to(device) for suffix in suffixes}
        alike = {suffix: IdentitySimilarity().to(device) for suffix in suffixes}
        for piece in pieces(rows, self._size(trainer)):
            x, table = read(images, piece[:, 0], module), images.attributes
            assert table is not None
            names = module.attributed().attribute_names
            own = truth([self.rules[other] for other in others], names, table[piece[:, 0]]).to(device)
            shown = {"": module.edit(x, edit, self.strength).float().clamp(-1, 1)}
            if trainer.testing:
                shown |= {"_untouched": x, "_random": read(images, piece[:, 1], module)}
            for suffix, result in shown.items():
                logits = self._logits(result)
                wanted = torch.full((len(x), 1), float(edit[0] == "+"), device=device)
                reached[suffix].update(logits[:, [self.targets.index(name)]], wanted)
                kept[suffix].update(logits[:, [self.targets.index(other) for other in others]], own)
                if self.features is not None and trainer.testing:
                    alike[suffix].update(self.features.features(result), self.features.features(x))
        values = {}
        for suffix in suffixes:
            found = reached[suffix].compute()
            values[f"reached{suffix}"] = found[f"hit_rate/{name}"]
            if others:
                rates = kept[suffix].compute()
                values[f"kept{suffix}"] = torch.stack([rates[f"hit_rate/{other}"] for other in others]).mean()
            if self.features is not None and trainer.testing:
                values[f"identity{suffix}"] = alike[suffix].compute()["source"]
            if trainer.testing and not suffix:
                values["n"] = found[f"n/{name}"]
        return values

    def _logits(self, images: Tensor) -> Tensor:
        assert self.judge is not None
        logits: Tensor = self.judge(images)
        return logits.float()

    def _reconstructed(self, trainer: pl.Trainer, module: AttributeEditor, images: ImageData) -> dict[str, Tensor]:
        count = limited(trainer, self.count if trainer.testing else self.val_count, self._size(trainer))
        rows, error = spread(len(images), count), CounterfactualError().to(module.device)
        domain = module.domains[0]
        for piece in pieces(rows[share(trainer, len(rows))], self._size(trainer)):
            x = read(images, piece, module)
            error.update(module.translate(x, domain, domain).float(), x)
        found = error.compute()
        return {key: found[key] for key in ("psnr", "ssim")}


class EditPictures(NamedPictures):
    """Image grids of edits by name at every validation and in the test, in ``samples`` and in the loggers.

    ``edits_*.png``: in every row an image, its reconstruction, and it with one attribute after the other added where it
    lacks and taken away where not. ``slider_*.png``: in every row an image, and it with one attribute flipped by
    rising strengths; the attributes take turns.

    Args:
        count: number of rows.
        strength: strength of the edits in ``edits_*.png``.
        strengths: those in ``slider_*.png``.
    """

    def __init__(
        self, count: int = 8, strength: float = 1.0, strengths: Sequence[float] = (0.0, 0.5, 1.0, 1.5, 2.0)
    ) -> None:
        if count < 1:
            refuse(self, "count", count, "give a number of at least 1.")
        self.count, self.strength, self.strengths = count, strength, tuple(strengths)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse an unsuitable method before the first batch."""
        if stage != "predict":
            editor(self, pl_module)

    def pictures(self, module: Method, split: Split) -> dict[str, Tensor]:
        method = editor(self, module)
        data = method.data.data("a", split)
        x = read(data, spread(len(data), self.count), method)
        own = method.read(x)
        flipped = torch.stack([method.flipped(own, name) for name in method.names])  # [K, N, K]
        singles = [method.edited(x, own, target, self.strength) for target in flipped]
        turns = torch.arange(len(x), device=x.device)
        turn = flipped[turns % len(method.names), turns]
        sliding = [method.edited(x, own, turn, strength) for strength in self.strengths]
        shown = {"edits": [x, method.edited(x, own, own), *singles], "slider": [x, *sliding]}
        return {name: grid_of(torch.stack(row, 1).flatten(0, 1), len(row)) for name, row in shown.items()}


def editor(owner: object, module: pl.LightningModule) -> AttributeEditor:
    """The module, as a method that changes attributes by name.

    Raises:
        UserError: for another method.
    """
    if not isinstance(module, AttributeEditor):
        raise UserError(
            f"{type(owner).__name__} is for methods that change attributes by name, not for {type(module).__name__}: "
            "remove it."
        )
    return module
