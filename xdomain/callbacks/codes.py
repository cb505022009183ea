"""Evaluation of common and separate codes: exact interventions, and the metrics of disentanglement."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import pytorch_lightning as pl
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from xdomain.batch import to_float
from xdomain.callbacks.content_checks import content_method
from xdomain.callbacks.evaluation import DrawnEvaluation
from xdomain.callbacks.networks import with_fresh_weights
from xdomain.callbacks.reading import limited, pieces, read, spread
from xdomain.data.base import Split
from xdomain.engines.interventions import Interventions
from xdomain.errors import UserError, refuse
from xdomain.methods import ContentMethod, Method
from xdomain.metrics import disentanglement as scores
from xdomain.metrics.disentanglement.inputs import alive, parts
from xdomain.metrics.probes import probe_balanced_accuracy

DIMENSIONS, PIXELS = 10, 50
"""Principal components of a code for scores of single dimensions, and of pixels for probes."""
READABLE = 0.1
"""Factors that no block shows better than this are left out of the gap."""

Blocks = dict[str, np.ndarray]


@runtime_checkable
class KnowsFactors(Protocol):
    """Data whose images can be drawn again with other parameters."""

    def interventions(self, role: str, split: Split) -> Interventions | None:
        """What can be changed in a role's images; None if its domain has no known content."""


class CodeScores(DrawnEvaluation):
    """Do separate codes hold the content and common codes the rest? Only in the test, on images drawn for it.

    DOMAIN is a domain with known content, whose images are changed or drawn. BLOCK is ``common`` or ``separate``, the
    codes as used at inference; these of the same networks with initial weights, as ``untrained_common`` and
    ``untrained_separate``; ``pixels``; or ``random``: ten normal numbers that know nothing of the image.

    =================================  =============================================================================
    ``moved/DOMAIN/BLOCK/CHANGE``      how much of the block an exact intervention moves, as a share of what exchanging
                                       the whole image does; see :func:`xdomain.metrics.disentanglement.moved`. CHANGE:
                                       ``content``: that of a donor; ``person``: everything that makes the donor's
                                       identity; one of its parameters; ``removed``: no content
    ``variance_ratio/DOMAIN``          variance of the separate code on the other domain, as a share of that on its own;
                                       ideally 0
    ``readable/DOMAIN/BLOCK/FACTOR``   balanced accuracy of a linear probe that reads a factor, where 0 is chance and 1
                                       perfect, of pixels from 50 principal components
    ``gap/DOMAIN``                     mean over factors: how far the block that should hold a factor is ahead of the
                                       other, relative to both together; see
                                       :func:`xdomain.metrics.disentanglement.block_gap`. 1 is ideal, 0 if they are
                                       equal
    ``block_disentanglement/DOMAIN``,  of DCI: whether each block serves either the content or the rest, and whether
    ``block_completeness/DOMAIN``      each factor stands in one block; by the summed importances of ten principal
                                       components of each block
    ``SCORE/DOMAIN/BLOCK``             of ten whitened principal components of a block: ``beta_vae``, ``factor_vae``,
                                       ``mig``, ``disentanglement``, ``completeness``, ``informativeness``, ``sap``,
                                       ``modularity``, ``explicitness``, ``irs``. A block may be rotated at no cost, so
                                       values like those of ``pixels`` are no defect. BLOCK may also be ``factors``, the
                                       ceiling
    ``n/DOMAIN``                       number of pairs for ``moved``
    =================================  =============================================================================

    ``gap`` and the two scores of DCI also stand with ``_untrained``. Factors are drawn independently of each other and
    uniformly; see :meth:`xdomain.engines.interventions.Interventions.independent`. Methods without separate codes have
    the values of ``common`` alone.

    Args:
        images: images with independent factors; two thirds are for fitting.
        pairs: images that are changed, and others that are donors.
        trees: boosted trees per value of a factor.
        seed: seed of the images and scores.
    """

    def __init__(self, images: int = 1500, pairs: int = 500, trees: int = 50, seed: int = 0) -> None:
        for name, value, least in (("images", images, 30), ("pairs", pairs, 2), ("trees", trees, 1)):
            if value < least:
                refuse(self, name, value, f"give a number of at least {least}.")
        self.images, self.pairs, self.trees, self.seed = images, pairs, trees, seed

    def check(self, module: Method, split: Split) -> None:
        method = content_method(module)
        if not isinstance(method.data, KnowsFactors):
            raise UserError(
                f"CodeScores changes images in exact ways, which {type(method.data).__name__} cannot: use Avatars, or "
                "remove it."
            )
        if not _known(method, split):
            raise UserError(
                f"CodeScores needs a domain with known content, but none of {', '.join(method.contents)} is: give "
                "names such as glasses, or remove it."
            )

    def measure(self, trainer: pl.Trainer, module: Method) -> dict[str, Tensor]:
        if not trainer.testing:
            return {}
        method = content_method(module)
        values: dict[str, Tensor] = {}
        fresh = content_method(with_fresh_weights(method, self.seed, readouts=[]))
        for domain, known in _known(method, "test").items():
            encode = Encoder(method, fresh, domain, known, self.seed)
            found = self._moved(trainer, encode) | self._independent(trainer, encode)
            if domain in method.codes(encode.sample):
                found["variance_ratio"] = _variance_ratio(trainer, method, domain, self.pairs)
            for name, value in found.items():
                first, *rest = name.split("/")
                values["/".join([first, domain, *rest])] = torch.tensor(value, dtype=torch.float32)
        return {name: value for name, value in values.items() if value.isfinite()}

    def _moved(self, trainer: pl.Trainer, encode: "Encoder") -> dict[str, float]:
        """Interventions on pairs."""
        known = encode.known
        order = np.random.default_rng(self.seed).permutation(len(known.u))
        count = limited(trainer, min(self.pairs, len(order)), encode.size)
        u = known.u[torch.from_numpy(order[:count])]
        donors, before = u.roll(1, 0), encode(u)
        changed = {name: known.given(u, donors, names) for name, names in known.changes.items()}
        values = {"n": float(count)}
        for change, other in (changed | {"removed": known.removed(u)}).items():
            for block, codes in encode(other).items():
                values[f"moved/{block}/{change}"] = scores.moved(before[block], codes, np.roll(before[block], 1, 0))
        return values

    def _independent(self, trainer: pl.Trainer, encode: "Encoder") -> dict[str, float]:
        """Scores on images with independent factors."""
        u, factors = encode.known.independent(limited(trainer, self.images, encode.size), self.seed)
        codes = encode(u)
        values: dict[str, float] = {}
        table = np.stack([*factors.values()], 1)
        belongs = [int(name in encode.known.content) for name in factors]
        for prefix in ("", "untrained_"):
            pair = [codes[name] for name in (f"{prefix}common", f"{prefix}separate") if name in codes]
            read = [self._readable(block, table) for block in pair]
            for name, row in zip(("common", "separate"), read, strict=False):
                values |= {f"readable/{prefix}{name}/{f}": float(s) for f, s in zip(factors, row, strict=True)}
            if len(pair) == 2:
                suffix = "_untrained" if prefix else ""
                both = self._readable(np.hstack(pair), table)
                values[f"gap{suffix}"] = _gap(np.stack(read), both, belongs)
                small = [components(block, DIMENSIONS) for block in pair]
                found = scores.dci(np.hstack(small), table, self.trees, self.seed)
                blocks = scores.block_importance(found.importance, [z.shape[1] for z in small])
                groups = scores.group_importance(blocks, belongs)
                values[f"block_disentanglement{suffix}"] = scores.disentanglement(groups)
                values[f"block_completeness{suffix}"] = scores.completeness(blocks)
        pixels = self._readable(components(codes["pixels"], PIXELS), table)
        values |= {f"readable/pixels/{f}": float(s) for f, s in zip(factors, pixels, strict=True)}
        for block in ("common", "separate", "pixels", "random"):
            if block in codes:
                values |= self._dimensions(block, components(codes[block], DIMENSIONS), table)
        return values | self._dimensions("factors", table.astype(np.float64), table)

    def _readable(self, codes: np.ndarray, table: np.ndarray) -> np.ndarray:
        """How well a probe reads every factor [K] of a table [N, K]."""
        fitted, tested = parts(len(codes), self.seed)
        x, y, row = torch.from_numpy(codes[fitted]), torch.from_numpy(codes[tested]), []
        for v in table.T:
            truth = torch.from_numpy(v[fitted]), torch.from_numpy(v[tested])
            right = float(probe_balanced_accuracy(x, truth[0], y, truth[1], seed=self.seed))
            chance = 1 / len(np.unique(v))
            row.append((right - chance) / (1 - chance))
        return np.array(row)

    def _dimensions(self, block: str, codes: np.ndarray, table: np.ndarray) -> dict[str, float]:
        """All scores of single dimensions."""
        d, c, i, _ = scores.dci(codes, table, self.trees, self.seed)
        found = {
            "beta_vae": scores.beta_vae_score(codes, table, seed=self.seed),
            "factor_vae": scores.factor_vae_score(codes, table, seed=self.seed),
            "mig": scores.mig(codes, table),
            "disentanglement": d,
            "completeness": c,
            "informativeness": i,
            "sap": scores.sap(codes, table, seed=self.seed),
            "modularity": scores.modularity(codes, table),
            "explicitness": scores.explicitness(codes, table, seed=self.seed),
            "irs": scores.irs(codes, table),
        }
        return {f"{name}/{block}": value for name, value in found.items()}


class Encoder:
    """Draws parameters and encodes the images, into all blocks of :class:`CodeScores`.

    Args:
        method: the method.
        fresh: the same with initial weights.
        domain: the domain of the images.
        known: what is known of them.
        seed: seed of the random codes.
    """

    def __init__(self, method: ContentMethod, fresh: ContentMethod, domain: str, known: Interventions, seed: int):
        self.method, self.fresh, self.domain, self.known = method, fresh, domain, known
        self.size = method.data.eval_batch_size
        self.rng = np.random.default_rng(seed)

    @property
    def sample(self) -> Tensor:
        """One image [1, C, H, W]."""
        return to_float(self.known.draw(self.known.u[:1]).to(self.method.device))

    def __call__(self, u: Tensor) -> Blocks:
        """Codes [n, D] of parameters [n, P], by block."""
        found = [self._encoded(piece) for piece in torch.split(u, self.size)]
        blocks = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
        return blocks | {"random": self.rng.normal(size=(len(u), DIMENSIONS))}

    def _encoded(self, u: Tensor) -> Blocks:
        images = to_float(self.known.draw(u).to(self.method.device))
        blocks = {"pixels": images}
        for prefix, method in (("", self.method), ("untrained_", self.fresh)):
            codes: Mapping[str, Tensor] = method.codes(images)
            blocks[f"{prefix}common"] = codes["common"]
            if self.domain in codes:
                blocks[f"{prefix}separate"] = codes[self.domain]
        return {name: block.flatten(1).float().cpu().numpy() for name, block in blocks.items()}


def components(codes: np.ndarray, count: int) -> np.ndarray:
    """The first principal components of codes [N, D], at most ``count``, whitened; of a constant code a constant."""
    codes = codes[:, alive(codes)]
    if not codes.shape[1]:
        return np.zeros((len(codes), 1))
    fitted = PCA(min(count, *codes.shape), whiten=True, random_state=0).fit(codes)
    result: np.ndarray = fitted.transform(codes)[:, fitted.explained_variance_ratio_ > 1e-9]
    return result


def _known(method: ContentMethod, split: Split) -> dict[str, Interventions]:
    """What can be changed in the images of the domains whose content is known."""
    data = method.data
    assert isinstance(data, KnowsFactors)
    found = {domain: data.interventions(data.role_of(domain), split) for domain in method.contents}
    return {domain: known for domain, known in found.items() if known is not None and len(known.u)}


def _gap(read: np.ndarray, both: np.ndarray, belongs: list[int]) -> float:
    """Gap of blocks from how well factors are read from each, [2, K], and from both together, [K]."""
    shown = both > READABLE
    if not shown.any():
        return float("nan")
    return scores.block_gap((read[:, shown] / both[shown]).clip(0, 1), np.array(belongs)[shown].tolist())


def _variance_ratio(trainer: pl.Trainer, method: ContentMethod, domain: str, count: int) -> float:
    """Variance of a separate code on the other domain as a share of that on its own."""
    data, variances = method.data, {}
    for name in method.domains:
        images = data.data(data.role_of(name), "test")
        rows = spread(len(images), limited(trainer, min(count, len(images)), data.eval_batch_size))
        codes = [method.codes(read(images, piece, method))[domain] for piece in pieces(rows, data.eval_batch_size)]
        variances[name == domain] = float(torch.cat(codes).double().var(0).sum())
    return variances[False] / variances[True] if variances[True] > 0 else float("nan")
