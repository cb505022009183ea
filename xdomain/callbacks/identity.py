"""Evaluation of identity: verification by embedders, and retrieval of the person in a translation."""

import hashlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from xdomain.batch import Batch, to_float
from xdomain.callbacks.evaluation import (
    BatchEvaluation,
    DrawnEvaluation,
    build_judge,
    check_translates_alone,
    ends,
    fetch_judge,
    judge_name,
)
from xdomain.callbacks.reading import limited, pieces, read, share
from xdomain.data.base import BaseDataModule, DomainPair, ImageData, Split
from xdomain.data.cache import Arrays, cached_arrays
from xdomain.errors import UserError, choice, did_you_mean, refuse
from xdomain.features.helpers import Helper
from xdomain.methods import Classifier, Method
from xdomain.metrics.retrieval import RetrievalRanks
from xdomain.metrics.verification import VerificationAUC

PIECE = 500  # distractors drawn and embedded per pass


@runtime_checkable
class World(Protocol):
    """Data that is drawn, with any number of people and the true counterpart of each image."""

    world_key: str
    """Everything that the images of strangers depend on, as text."""

    def strangers(self, begin: int, end: int) -> Tensor:
        """Photos ``uint8`` [N, C, H, W] of people who are in no part of the data, numbered from 0."""

    def counterparts(self, split: Split, positions: list[int], of: BaseDataModule) -> Tensor:
        """The people in images of another module, drawn in the style of this one, ``uint8`` [N, C, H, W]."""


class IdentityRetrieval(DrawnEvaluation):
    """How well the person in a translation is retrieved from a gallery of photos.

    Taigman et al. 2017, table 4. The probe is the translation of a photo; the gallery holds one other photo of the same
    person and photos of many others. An embedder that the method does not use ranks the gallery by cosine similarity.
    ``median_rank@E``, ``mean_rank@E``, ``rank_1@E`` and ``rank_5@E`` (shares in [0, 1]) are also reported with
    ``_untranslated`` (the probe is the photo itself) and, if the data can draw it, with ``_reference`` (the probe is
    the same person drawn in the style of the target domain). There is one probe per person; ``n@E`` is their number.

    Args:
        embedder: recipe or checkpoint of the network whose features are compared.
        distractors: number of photos of other people in the gallery of the test.
        val_distractors: the same in a validation.
        tasks: other tasks of the method whose outputs are probes, too, with the suffix ``_TASK``.
        random: also measure with ``_random``, where the probe shows another person in the style of the target domain.
    """

    def __init__(
        self,
        embedder: str,
        distractors: int = 100_000,
        val_distractors: int = 2000,
        tasks: Sequence[str] = (),
        random: bool = False,
    ) -> None:
        self.tasks, self.random = tuple(tasks), random
        self.embedder, self.distractors, self.val_distractors = embedder, distractors, val_distractors
        self.name = judge_name(embedder)
        self.helper: Helper | None = None

    def check(self, module: Method, split: Split) -> None:
        check_translates_alone(self, module)
        photos = _sides(module.data)["a"]
        if not isinstance(photos, World):
            raise UserError(
                f"IdentityRetrieval needs data that can draw strangers; {photos.domains[0]} cannot: remove it."
            )
        pairs_of_people(module.data.data("a", split).labels, photos.domains[0])
        for task in self.tasks:
            if task not in module.tasks:
                hint = did_you_mean(task, module.tasks, f": give {choice(module.tasks)}.")
                refuse(self, "tasks", task, f", which a {type(module).__name__} does not offer{hint}")
        self.helper = self.helper or build_judge(self.embedder)

    def measure(self, trainer: pl.Trainer, module: Method) -> dict[str, Tensor]:
        self.helper = fetch_judge(self.helper or build_judge(self.embedder), trainer, module)
        values: dict[str, Tensor] = {}
        for suffix, metric in self._ranks(trainer, module, "test" if trainer.testing else "val").items():
            found = metric.compute()
            keys = ("median_rank", "mean_rank", "rank_1", "rank_5")
            values |= {f"{key}{suffix}@{self.name}": found[key].float() for key in keys}
            if trainer.testing and not suffix:
                values |= {f"{key}@{self.name}": found[key].float() for key in ("gallery", "n")}
        return values

    def _ranks(self, trainer: pl.Trainer, module: Method, split: Split) -> dict[str, RetrievalRanks]:
        sides, size = _sides(module.data), module.data.eval_batch_size
        photos, target = sides["a"], _world(sides.get("b"))
        data = module.data.data("a", split)
        people = np.stack(pairs_of_people(data.labels, photos.domains[0]), 1)
        people = people[share(trainer, limited(trainer, len(people), size))]
        gallery = self._gallery(photos, split, module)[trainer.global_rank :: trainer.world_size]

        suffixes = ["", "_untranslated", *(["_reference"] if target else []), *(f"_{task}" for task in self.tasks)]
        suffixes += ["_random"] if target and self.random else []
        ranks = {suffix: RetrievalRanks().to(module.device) for suffix in suffixes}
        for metric in ranks.values():
            metric.update_gallery(gallery)
        for piece in pieces(people, size):
            rows, others = piece[:, 0], piece[:, 1]
            images = read(data, rows, module)
            match = self._features(read(data, others, module), module)
            shown = {"": module.translate(images, *ends(module)).clamp(-1, 1), "_untranslated": images}
            if target:
                shown["_reference"] = to_float(target.counterparts(split, rows.tolist(), of=photos))
                if self.random:
                    another = others_of(rows, module.data.data("a", split))
                    shown["_random"] = to_float(target.counterparts(split, another.tolist(), of=photos))
            for task in self.tasks:
                shown[f"_{task}"] = module.tasks[task](images, *ends(module)).clamp(-1, 1)
            for suffix, probe in shown.items():
                ranks[suffix].update_queries(self._features(probe, module), match)
        return ranks

    def _features(self, images: Tensor, module: Method) -> Tensor:
        assert self.helper is not None
        return self.helper.features(images.to(module.device))

    def _gallery(self, photos: BaseDataModule, split: Split, module: Method) -> Tensor:
        """Features of the distractors [N, dim]; drawn and embedded once, then cached."""
        count = self.distractors if split == "test" else self.val_distractors
        world = _world(photos)
        assert self.helper is not None
        assert world is not None
        weights = hashlib.sha256()
        for value in self.helper.network.state_dict().values():
            weights.update(value.cpu().numpy().tobytes())

        def embed(begin: int, end: int) -> Arrays:
            return {"features": self._features(to_float(world.strangers(begin, end)), module).cpu().numpy()}

        key = f"{weights.hexdigest()} {world.world_key}"
        features = cached_arrays(f"strangers-{self.name}", f"{count} {key}", count, embed, PIECE)["features"]
        return torch.from_numpy(np.array(features)).to(module.device)


def others_of(rows: np.ndarray, data: ImageData) -> np.ndarray:
    """For every position another one, half of the images further on, which shows another person."""
    return (rows + len(data) // 2) % len(data)


def _sides(data: BaseDataModule) -> dict[str, BaseDataModule]:
    """The data module of every role; the same one twice if it has both domains."""
    return data.modules if isinstance(data, DomainPair) else {"a": data}


def _world(data: object) -> World | None:
    return data if isinstance(data, World) else None


def pairs_of_people(labels: np.ndarray | None, domain: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the first and the second image of every identity with at least two, int64 [N] each.

    Raises:
        UserError: if identities are unknown or nobody has two images.
    """
    if labels is None:
        raise UserError(f"retrieval needs identities, but {domain} has none: remove IdentityRetrieval.")
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=labels[order[0]] - 1))
    counts = np.diff(starts, append=len(labels))
    starts = starts[counts > 1]
    if len(starts) == 0:
        raise UserError(
            f"retrieval needs two images of a person, but {domain} has one of each: remove IdentityRetrieval."
        )
    return order[starts], order[starts + 1]


class IdentityVerification(BatchEvaluation):
    """Face verification: ``auc`` of an embedder's cosine similarity, on people that it was not trained on.

    The test adds ``n`` (number of images), ``same`` and ``different`` (numbers of pairs).
    """

    def check(self, module: Method, split: Split) -> None:
        if not isinstance(module, Classifier):
            raise UserError(f"IdentityVerification is for embedders, not for {type(module).__name__}: remove it.")
        if module.data.data("a", split).labels is None:
            raise UserError(f"IdentityVerification needs identities, but {module.domains[0]} has none: remove it.")

    def begin(self, trainer: pl.Trainer, module: Method) -> None:
        assert isinstance(module, Classifier)
        self.metric = VerificationAUC().to(module.device)

    def add(self, module: Method, batch: Batch, testing: bool) -> None:
        assert isinstance(module, Classifier)
        labels = batch["a"].label
        assert labels is not None
        self.metric.update(module.features(batch["a"].image), labels)

    def report(self, trainer: pl.Trainer, testing: bool) -> dict[str, Tensor]:
        values = {name: value.float() for name, value in self.metric.compute().items()}
        return values if testing else {"auc": values["auc"]}
