"""Scores of single dimensions: MIG, modularity, explicitness, DCI, SAP."""

from typing import NamedTuple

import numpy as np
from scipy.stats import entropy
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.svm import LinearSVC

from xdomain.metrics.disentanglement.inputs import Array, alive, checked, parts, standardised


def mutual_information(codes: Array, factors: Array, bins: int = 20) -> Array:
    """Mutual information of each dimension with each factor, in nats, [D, K].

    Dimensions are put into ``bins`` bins of equal width between their smallest and their largest value. For N rows and
    independent variables the estimate is too high by about (bins - 1)(values - 1) / (2 N).
    """
    found = [[_information(binned(z, bins), v) for v in factors.T] for z in codes.T]
    return np.array(found)


def _information(x: Array, y: Array) -> float:
    """Mutual information in nats of two rows of small integers."""
    return _entropy(x) + _entropy(y) - _entropy(x * (y.max() + 1) + y)


def _entropy(x: Array) -> float:
    """Entropy in nats of a row of small integers."""
    counts = np.bincount(x)
    shares = counts[counts > 0] / len(x)
    return float(-(shares * np.log(shares)).sum())


def binned(values: Array, bins: int) -> Array:
    """The bins 0 .. bins - 1, of equal width, of values [N]."""
    edges = np.linspace(values.min(), values.max(), bins + 1)[1:-1]
    return np.searchsorted(edges, values, side="right")


def mig(codes: Array, factors: Array, bins: int = 20) -> float:
    """Mutual information gap: how far each factor's best dimension is ahead of the second.

    Chen et al., "Isolating Sources of Disentanglement in VAEs", NeurIPS 2018, (6): the mean over factors of the gap in
    mutual information (see :func:`mutual_information`), divided by the entropy of the factor.

    Args:
        codes: [N, D].
        factors: integers [N, K].
        bins: bins per dimension.

    Returns:
        In [0, 1]; 0 for a useless code, and for one that holds every factor twice.
    """
    codes, factors = checked(codes, factors)
    information = np.sort(mutual_information(codes, factors, bins), axis=0)
    entropies = [_entropy(v) for v in factors.T]
    return float(np.mean((information[-1] - information[-2]) / entropies))


def modularity(codes: Array, factors: Array, bins: int = 20) -> float:
    """How nearly each dimension informs about a single factor.

    Ridgeway and Mozer, "Learning Deep Disentangled Embeddings", NeurIPS 2018, (2), on :func:`mutual_information`.
    Constant dimensions do not count.

    Args:
        codes: [N, D].
        factors: integers [N, K].
        bins: bins per dimension.

    Returns:
        In [0, 1]; 0 for a constant code, but about .3 for noise.
    """
    codes, factors = checked(codes, factors)
    living = alive(codes)
    return modularity_of(mutual_information(codes[:, living], factors, bins)) if living.any() else 0.0


def modularity_of(information: Array) -> float:
    """Modularity of mutual information [D, K]; a dimension without any has 0."""
    largest = information.max(1)
    rest = (information**2).sum(1) - largest**2
    scale = largest**2 * (information.shape[1] - 1)
    return float(np.mean(np.where(scale > 0, 1 - rest / np.where(scale > 0, scale, 1), 0)))


def explicitness(codes: Array, factors: Array, seed: int = 0) -> float:
    """How well factors can be read from all dimensions together by logistic regression.

    Ridgeway and Mozer 2018: the area under the ROC curve of one value against the others, on rows that were not fitted,
    averaged over values and factors. Codes are standardised.

    Args:
        codes: [N, D].
        factors: integers [N, K].
        seed: seed of the split.

    Returns:
        In [0, 1]; 0.5 for a useless code. Not rescaled.
    """
    codes, factors = checked(codes, factors)
    codes = standardised(codes)
    fitted, tested = parts(len(codes), seed)
    areas = []
    for v in factors.T:
        probe = LogisticRegression(max_iter=1000).fit(codes[fitted], v[fitted])
        scores = probe.predict_proba(codes[tested])
        for value, score in zip(probe.classes_, scores.T, strict=True):
            if 0 < (v[tested] == value).sum() < len(tested):
                areas.append(roc_auc_score(v[tested] == value, score))
    return float(np.mean(areas))


class DCI(NamedTuple):
    """The three scores of :func:`dci`, and the importances [D, K] behind the first two."""

    disentanglement: float
    completeness: float
    informativeness: float
    importance: Array


def dci(codes: Array, factors: Array, trees: int = 100, seed: int = 0) -> DCI:
    """Disentanglement, completeness and informativeness by boosted trees.

    Eastwood and Williams, "A Framework for the Quantitative Evaluation of Disentangled Representations", ICLR 2018,
    with the classifier that became common instead of the paper's: gradient boosting (depth 3, rate 0.1) of each factor
    from all dimensions. See :func:`disentanglement` and :func:`completeness`; informativeness is the mean balanced
    accuracy on rows that were not fitted.

    Args:
        codes: [N, D]. The time is proportional to N, D, the values of a factor and ``trees``.
        factors: integers [N, K].
        trees: trees per value of a factor.
        seed: seed of split and trees.
    """
    codes, factors = checked(codes, factors)
    fitted, tested = parts(len(codes), seed)
    importance, right = [], []
    for v in factors.T:
        trained = GradientBoostingClassifier(n_estimators=trees, random_state=seed).fit(codes[fitted], v[fitted])
        importance.append(np.abs(trained.feature_importances_))
        right.append(balanced_accuracy_score(v[tested], trained.predict(codes[tested])))
    found = np.stack(importance, 1)
    return DCI(disentanglement(found), completeness(found), float(np.mean(right)), found)


def disentanglement(importance: Array) -> float:
    """How nearly each dimension matters to a single factor: 1 - entropy, base K, of importances [D, K].

    Dimensions count by their share of all importance. In [0, 1]; 0 if nothing is important.
    """
    shares = importance.sum(1)
    if shares.sum() == 0:
        return 0.0
    rows = importance[shares > 0]
    single = 1 - entropy(rows, axis=1, base=importance.shape[1])
    return float(np.average(single, weights=shares[shares > 0]))


def completeness(importance: Array) -> float:
    """How nearly each factor needs a single dimension: likewise with base D. Not comparable between lengths D."""
    return disentanglement(importance.T)


def sap(codes: Array, factors: Array, continuous: bool = True, seed: int = 0) -> float:
    """Separated attribute predictability: the gap between the two dimensions that best predict a factor alone.

    Kumar et al., "Variational Inference of Disentangled Latent Concepts", ICLR 2018, section 3.

    Args:
        codes: [N, D].
        factors: integers [N, K].
        continuous: predict by squared correlation, for ordered factors. Otherwise by the accuracy of a linear SVM
            (C 0.01, classes weighted equally) on rows that were not fitted. One number cannot single out a middle
            value well: a perfect code then has 0.5 with two values, about 0.4 with five, more with more rows.
        seed: seed of the split.

    Returns:
        In [0, 1]; 0 for a useless code, and for one that holds every factor twice.
    """
    codes, factors = checked(codes, factors)
    codes = standardised(codes)
    if continuous:
        scores = (codes.T @ standardised(factors.astype(np.float64)) / len(codes)) ** 2
    else:
        fitted, tested = parts(len(codes), seed)
        scores = np.array([[_separable(z[:, None], v, fitted, tested) for v in factors.T] for z in codes.T])
    ordered = np.sort(scores, axis=0)
    return float(np.mean(ordered[-1] - ordered[-2]))


def _separable(z: Array, v: Array, fitted: Array, tested: Array) -> float:
    machine = LinearSVC(C=0.01, class_weight="balanced", random_state=0).fit(z[fitted], v[fitted])
    return float(machine.score(z[tested], v[tested]))
