"""Evaluation of face swaps in clips of avatars: whose face is it, and does it move like the source?"""

from collections.abc import Callable

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from xdomain.batch import to_float
from xdomain.callbacks.evaluation import DrawnEvaluation, build_judge, check_translates_alone, fetch_judge, judge_name
from xdomain.callbacks.reading import limited, part_of, pieces, read, spread
from xdomain.data.base import Split
from xdomain.data.people import AvatarClips
from xdomain.engines.avatars import SCHEMA
from xdomain.errors import UserError, refuse
from xdomain.features.helpers import Helper
from xdomain.methods import Method
from xdomain.metrics.counterfactual import CounterfactualError
from xdomain.metrics.pose import KernelReader, correlations

MOTION = ("yaw", "mouth_open", "gaze")


class FaceSwapScores(DrawnEvaluation):
    """Identity and motion of translated frames, against what the engine knows.

    For :class:`xdomain.data.AvatarClips`. D is a direction, such as ``anna_to_boris``, E an embedder of identity.

    ==========================  ====================================================================================
    ``nearer/D@E``              share of translated frames whose features are more similar (cosine) to the mean ones of
                                the target person than to those of the source
    ``correlation/WHAT/D``      of what :class:`xdomain.metrics.pose.KernelReader` reads in the translations, having
                                learned from training frames of the target person, with the engine's truth of the
                                source frames; WHAT is ``yaw``, ``mouth_open`` or ``gaze``
    ``l1/D``, ``ssim/D``        distance from the true swap: the target person in the same pose
    ==========================  ====================================================================================

    In the test each also stands with ``_truth`` for the true swap and with ``_random`` for real frames of the target
    person in random order; ``nearer``, ``l1`` and ``ssim`` with ``_untranslated`` for the frames as they are. All
    processes find the same.

    Args:
        embedder: recipe or checkpoint of the network whose features are compared; None leaves ``nearer`` out.
        count: frames per direction in the test, evenly spaced.
        val_count: the same in a validation.
    """

    def __init__(self, embedder: str | None = None, count: int = 400, val_count: int = 100) -> None:
        for name, value in (("count", count), ("val_count", val_count)):
            if value < 2:
                refuse(self, name, value, "give a number of frames of at least 2.")
        self.embedder, self.count, self.val_count = embedder, count, val_count
        self.helper: Helper | None = None

    def check(self, module: Method, split: Split) -> None:
        if not isinstance(module.data, AvatarClips):
            known = type(module.data).__name__
            raise UserError(f"FaceSwapScores needs clips whose poses are known, but the data is {known}: remove it.")
        for direction in _directions(module):
            check_translates_alone(self, module, direction)
        if self.embedder is not None:
            self.helper = self.helper or build_judge(self.embedder)

    def measure(self, trainer: pl.Trainer, module: Method) -> dict[str, Tensor]:
        if self.embedder is not None:
            self.helper = fetch_judge(self.helper or build_judge(self.embedder), trainer, module)
        values: dict[str, Tensor] = {}
        for source, target in _directions(module):
            values |= self._measured(trainer, module, source, target)
        return {name: value.float() for name, value in values.items()}

    def _measured(self, trainer: pl.Trainer, module: Method, source: str, target: str) -> dict[str, Tensor]:
        data, split = module.data, part_of(trainer)
        assert isinstance(data, AvatarClips)
        a, b = data.role_of(source), data.role_of(target)
        images, others = data.data(a, split), data.data(b, split)
        limit = limited(trainer, self.count if trainer.testing else self.val_count, data.eval_batch_size)
        rows = spread(len(images), limit)
        x = self._all(lambda piece: read(images, piece, module), rows, module)
        shown = {
            "": self._all(lambda piece: _changed(module, read(images, piece, module), source, target), rows, module)
        }
        truth = to_float(data.swapped(a, split, rows.tolist(), b)).to(module.device)
        if trainer.testing:
            shown |= {
                "_truth": truth,
                "_random": read(others, np.random.default_rng(0).permutation(rows), module),
                "_untranslated": x,
            }

        at = f"{source}_to_{target}"
        reader, poses = self._reader(module, b), _motion(data.parameters(a, split)[rows])
        values: dict[str, Tensor] = {}
        for suffix, frames in shown.items():
            if suffix != "_untranslated":
                found = correlations(reader(frames).cpu(), poses)
                named = zip(MOTION, found, strict=True)
                values |= {f"correlation{suffix}/{name}/{at}": value for name, value in named if value.isfinite()}
            if suffix != "_truth":
                error = CounterfactualError().to(module.device)
                error.update(frames, truth)
                distances = error.compute()
                values |= {f"{name}{suffix}/{at}": distances[name] for name in ("l1", "ssim")}
            if self.helper is not None:
                values[f"nearer{suffix}/{at}@{judge_name(str(self.embedder))}"] = self._nearer(module, frames, a, b)
        return values | ({f"n/{at}": torch.tensor(len(rows))} if trainer.testing else {})

    def _all(self, make: Callable[[np.ndarray], Tensor], rows: np.ndarray, module: Method) -> Tensor:
        return torch.cat([make(piece) for piece in pieces(rows, module.data.eval_batch_size)])

    def _reader(self, module: Method, role: str) -> KernelReader:
        """Reads the motion of a role's person, having learned from training frames."""
        data = module.data
        assert isinstance(data, AvatarClips)
        images = data.data(role, "train")
        rows = spread(len(images), 1000)
        return KernelReader(read(images, rows, module), _motion(data.parameters(role, "train")[rows]).to(module.device))

    def _nearer(self, module: Method, frames: Tensor, source: str, target: str) -> Tensor:
        """Share of frames that are nearer to the target person."""
        return (self._likeness(module, frames, target) > self._likeness(module, frames, source)).float().mean()

    def _likeness(self, module: Method, frames: Tensor, role: str) -> Tensor:
        """Cosine similarities [N] between features of frames and the mean ones of a person's training frames."""
        assert self.helper is not None
        size, images = module.data.eval_batch_size, module.data.data(role, "train")
        known = self._all(lambda piece: self._features(read(images, piece, module)), spread(len(images), 100), module)
        person = F.normalize(known).mean(0, keepdim=True)
        features = torch.cat([self._features(piece) for piece in torch.split(frames, size)])
        return F.cosine_similarity(features, person)

    def _features(self, images: Tensor) -> Tensor:
        assert self.helper is not None
        return self.helper.features(images)


def _directions(module: Method) -> list[tuple[str, str]]:
    return [(source, target) for source, target in module.directions if source != target]


def _changed(module: Method, images: Tensor, source: str, target: str) -> Tensor:
    return module.translate(images, source, target).float().clamp(-1, 1)


def _motion(u: Tensor) -> Tensor:
    """The motion in engine parameters [N, P]: [N, K]."""
    return u[:, [SCHEMA.index(name) for name in MOTION]]
