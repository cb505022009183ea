"""Evaluation of identity: can embedders tell people apart, and does a translation lead back to its person?"""

import hashlib
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
from xdomain.data.base import BaseDataModule, DomainPair, Split
from xdomain.data.cache import Arrays, cached_arrays
from xdomain.errors import UserError
from xdomain.features.helpers import Helper
from xdomain.methods import Classifier, Method
from xdomain.metrics.retrieval import RetrievalRanks
from xdomain.metrics.verification import VerificationAUC

PIECE = 500  # distractors that are drawn and embedded at a time


@runtime_checkable
class World(Protocol):
    """Data whose images are drawn, so that there are as many people as one asks for, and a truth for each image."""

    world_key: str
    """Everything that the pictures of strangers depend on, as text."""

    def strangers(self, begin: int, end: int) -> Tensor:
        """Photos ``uint8`` [N, C, H, W] of people in no part of the data, numbered from 0."""

    def counterparts(self, split: Split, positions: list[int], of: BaseDataModule) -> Tensor:
        """How this world would draw the people in images of another module of it, ``uint8`` [N, C, H, W]."""


class IdentityRetrieval(DrawnEvaluation):
    """Does a translation lead back to the person that it was made from?

    Taigman et al. 2017, table 4. The probe is the translation of a photo; the gallery holds one other photo of that
    person and photos of many others. An embedder that has no part in the method ranks the gallery by cosine similarity.
    ``median_rank@E``, ``mean_rank@E``, ``rank_1@E`` and ``rank_5@E`` (shares in [0, 1]) stand beside the same with
    ``_untranslated`` (the probe is the photo itself) and, where the world of the data can draw it, ``_reference``: the
    probe is how the target world draws this very person. One probe per person, ``n@E`` of them.

    Args:
        embedder: zoo recipe or checkpoint of the network whose features are compared.
        distractors: photos of other people in the gallery of the test.
        val_distractors: the same in a validation.
    """

    def __init__(self, embedder: str, distractors: int = 100_000, val_distractors: int = 2000) -> None:
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

        suffixes = ["", "_untranslated", *(["_reference"] if target else [])]
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
            for suffix, probe in shown.items():
                ranks[suffix].update_queries(self._features(probe, module), match)
        return ranks

    def _features(self, images: Tensor, module: Method) -> Tensor:
        assert self.helper is not None
        return self.helper.features(images.to(module.device))

    def _gallery(self, photos: BaseDataModule, split: Split, module: Method) -> Tensor:
        """Features of the distractors [N, dim]; they are drawn and embedded once and kept in the cache folder."""
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


def _sides(data: BaseDataModule) -> dict[str, BaseDataModule]:
    """The data module of every role; of two domains in one module, that one."""
    return data.modules if isinstance(data, DomainPair) else {"a": data}


def _world(data: object) -> World | None:
    return data if isinstance(data, World) else None


def pairs_of_people(labels: np.ndarray | None, domain: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the first and of the second image of every identity that has two, int64 [N] each.

    Raises:
        UserError: where identities are unknown or no one has two images.
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
    """Are two photos of the same person? ``auc`` of an embedder's cosine similarity, on people it was not trained on.

    In the test also ``n`` (images), ``same`` and ``different`` (pairs).
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
