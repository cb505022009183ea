"""Scores of batches that share the value of one factor: beta-VAE, FactorVAE, IRS."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from xdomain.metrics.disentanglement.inputs import Array, alive, checked, parts, standardised


class Pools:
    """Rows by the value of one factor, to draw rows that share it."""

    def __init__(self, factors: Array, rows: Array) -> None:
        self.factors, self.rows = factors, rows
        self.order = [rows[np.argsort(column, kind="stable")] for column in factors[rows].T]
        self.counts = [np.bincount(column, minlength=column.max() + 1) for column in factors[rows].T]
        self.starts = [np.cumsum(counts) - counts for counts in self.counts]

    def partners(self, rows: Array, k: int, rng: np.random.Generator) -> Array:
        """For rows of any shape others at random, in which factor k has the same value."""
        value = self.factors[rows, k]
        at = self.starts[k][value] + (rng.random(rows.shape) * self.counts[k][value]).astype(np.int64)
        chosen: Array = self.order[k][at]
        return chosen


def beta_vae_score(codes: Array, factors: Array, points: int = 800, batch: int = 32, seed: int = 0) -> float:
    """Accuracy of a linear classifier that says which factor two batches of codes share.

    Higgins et al., "beta-VAE", ICLR 2017, section 3, with logistic regression. A point is the mean absolute difference
    of ``batch`` pairs of codes that share the value of one factor. Codes are standardised first. Pairs are drawn from
    the given rows, which must have factors independent of each other. Every factor has equally many points.

    Args:
        codes: [N, D].
        factors: integers [N, K].
        points: points to fit to; half as many are tested, from other rows.
        batch: pairs per point.
        seed: seed of rows and points.

    Returns:
        In [0, 1]; 1 / K for a useless code. It is 1, too, for a code in which all factors are mixed by a rotation.
    """
    codes, factors = checked(codes, factors)
    codes, rng = standardised(codes), np.random.default_rng(seed)

    def drawn(rows: Array, count: int) -> tuple[Array, Array]:
        pools, features = Pools(factors, rows), []
        which = np.repeat(np.arange(factors.shape[1]), -(-count // factors.shape[1]))
        for k in range(factors.shape[1]):
            one = rng.choice(rows, (len(which) // factors.shape[1], batch))
            features.append(np.abs(codes[one] - codes[pools.partners(one, k, rng)]).mean(1))
        return np.concatenate(features), which

    fitted, tested = parts(len(codes), seed)
    x, y = drawn(fitted, points)
    return float(LogisticRegression(max_iter=1000).fit(x, y).score(*drawn(tested, points // 2)))


def factor_vae_score(codes: Array, factors: Array, votes: int = 800, batch: int = 32, seed: int = 0) -> float:
    """Accuracy of a majority vote that names the shared factor by the dimension that varies least.

    Kim and Mnih, "Disentangling by Factorising", ICML 2018, section 4. Variances of a batch are divided by those of all
    rows; constant dimensions have no vote. Every factor has equally many votes.

    Args:
        codes: [N, D].
        factors: integers [N, K].
        votes: votes to count; half as many are tested, from other rows.
        batch: rows per vote.
        seed: seed of rows and votes.

    Returns:
        In [0, 1]; about 1 / K for noise, 0 for a constant code.
    """
    codes, factors = checked(codes, factors)
    codes, rng = codes[:, alive(codes)], np.random.default_rng(seed)
    if not codes.shape[1]:
        return 0.0
    total = codes.var(0, ddof=1)

    def drawn(rows: Array, count: int) -> Array:
        pools, columns = Pools(factors, rows), []
        for k in range(factors.shape[1]):
            one = rng.choice(rows, (-(-count // factors.shape[1]), 1))
            same = pools.partners(one.repeat(batch, 1), k, rng)
            least = (codes[same].var(1, ddof=1) / total).argmin(1)
            columns.append(np.bincount(least, minlength=codes.shape[1]))
        return np.stack(columns, 1)

    fitted, tested = parts(len(codes), seed)
    named = drawn(fitted, votes).argmax(1)
    table = drawn(tested, votes // 2)
    return float(table[np.arange(len(table)), named].sum() / table.sum())


def irs(codes: Array, factors: Array, quantile: float = 0.99) -> float:
    """Interventional robustness: how little a dimension moves while its factor is held and the others change.

    Suter et al., "Robustly Disentangled Causal Mechanisms", ICML 2019. For a dimension and a factor: 1 minus the
    ``quantile`` of the distances from the mean at one value of the factor, averaged over values, as a share of the
    largest distance from the overall mean. The best factor of each dimension counts, dimensions by their largest
    distance.

    Args:
        codes: [N, D].
        factors: integers [N, K], independent of each other.
        quantile: share of the distances at one value below the one that counts.

    Returns:
        In [0, 1]; 0 for a constant code, but about .33 for Gaussian noise.
    """
    codes, factors = checked(codes, factors)
    codes = codes[:, alive(codes)]
    if not codes.shape[1]:
        return 0.0
    largest = np.abs(codes - codes.mean(0)).max(0)
    moved = np.empty((codes.shape[1], factors.shape[1]))
    for k, column in enumerate(factors.T):
        held = [codes[column == value] for value in np.unique(column)]
        moved[:, k] = np.mean([np.quantile(np.abs(z - z.mean(0)), quantile, axis=0) for z in held], axis=0)
    return float(np.average((1 - moved / largest[:, None]).max(1), weights=largest))
