"""Scores that need no factors: dependence among dimensions, and agreement of several trainings (UDR)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.linalg import sqrtm
from scipy.stats import rankdata
from sklearn.linear_model import Lasso

from xdomain.metrics.disentanglement.inputs import Array, alive, standardised

LASSO = 0.1
PRUNED = 0.05
"""Dimensions are dead whose standard deviation is below this share of the largest."""


def gaussian_total_correlation(codes: Array) -> float:
    """Total correlation, in nats, of a Gaussian with the covariance of codes [N, D]; 0 if no two correlate."""
    correlation = np.corrcoef(codes[:, alive(codes)], rowvar=False)
    return float(-0.5 * np.linalg.slogdet(np.atleast_2d(correlation))[1])


def gaussian_wasserstein_correlation(codes: Array) -> float:
    """Squared Wasserstein distance between Gaussians with the covariance of codes [N, D] and with its diagonal.

    Divided by the sum of the variances, so that the scale of codes does not matter; 0 if no two dimensions correlate.
    """
    covariance = np.atleast_2d(np.cov(codes, rowvar=False))
    root = np.diag(np.sqrt(np.diag(covariance)))
    cross = sqrtm(root @ covariance @ root).real
    return float(2 * (np.trace(covariance) - np.trace(cross)) / np.trace(covariance))


def udr(codes: Sequence[Array], similarity: Literal["lasso", "spearman"] = "lasso") -> Array:
    """Unsupervised disentanglement ranking: how well each training's dimensions are found again in the others.

    Duan et al., "Unsupervised Model Selection for Variational Disentangled Representation Learning", ICLR 2020. For
    every pair of trainings with other seeds, a matrix of |lasso coefficients| (weight :data:`LASSO`, codes
    standardised) or |rank correlations| of their dimensions; see :func:`relative_strength`. Dead dimensions are left
    out: those below :data:`PRUNED` of the largest deviation, instead of the paper's KL, which only a VAE has.

    Args:
        codes: codes [N, D] of the same N images by each of M trainings.
        similarity: the kind of matrix.

    Returns:
        The scores [M] in [0, 1], each the median over the other trainings. Equal trainings, up to order and sign, have
        0.9 by lasso.

    Raises:
        ValueError: for fewer than two trainings, or different numbers of images.
    """
    if len(codes) < 2 or len({len(z) for z in codes}) > 1:
        raise ValueError(f"give codes of the same images by two trainings or more, not {[z.shape for z in codes]}")
    kept = []
    for z in codes:
        living = alive(z) & (z.std(0) >= PRUNED * z.std(0).max())
        kept.append(standardised(z[:, living].astype(np.float64)))
    agreement = np.full((len(kept), len(kept)), np.nan)
    for i, one in enumerate(kept):
        for j, other in enumerate(kept):
            if i != j:
                agreement[i, j] = relative_strength(_similarity(one, other, similarity))
    scores: Array = np.nanmedian(agreement, axis=1)
    return scores


def relative_strength(similarity: Array) -> float:
    """How nearly rows and columns of similarities [D, D'] have one large entry: the mean of max^2 / sum.

    In [0, 1] for similarities in [0, 1]; a row or column of zeros has 0.
    """
    if not similarity.size:
        return 0.0
    means = []
    for axis in (0, 1):
        total, largest = similarity.sum(axis), similarity.max(axis)
        means.append(np.mean(np.where(total > 0, largest**2 / np.where(total > 0, total, 1), 0)))
    return float(np.mean(means))


def _similarity(one: Array, other: Array, kind: str) -> Array:
    """[D, D'] of two codes [N, D] and [N, D']."""
    if not one.shape[1] or not other.shape[1]:
        return np.zeros((one.shape[1], other.shape[1]))
    if kind == "lasso":
        fits = [np.abs(Lasso(alpha=LASSO).fit(one, z).coef_) for z in other.T]
        return np.stack(fits, 1)
    ranked = [standardised(rankdata(z, axis=0)) for z in (one, other)]
    result: Array = np.abs(ranked[0].T @ ranked[1]) / len(one)
    return result
