"""Scores of disentanglement against known answers: codes made from the factors, closed forms, scipy and sklearn."""

import math

import numpy as np
import pytest
from scipy.special import rel_entr
from sklearn.datasets import make_spd_matrix
from sklearn.metrics import mutual_info_score

from xdomain.metrics.disentanglement import (
    beta_vae_score,
    block_gap,
    block_importance,
    completeness,
    dci,
    disentanglement,
    explicitness,
    factor_vae_score,
    gaussian_total_correlation,
    gaussian_wasserstein_correlation,
    group_importance,
    irs,
    mig,
    modularity,
    modularity_of,
    moved,
    mutual_information,
    relative_strength,
    sap,
    udr,
)

N, K, VALUES = 1800, 4, 5
FACTORS = np.random.default_rng(0).integers(0, VALUES, (N, K))
PLAIN = (FACTORS - FACTORS.mean(0)) / FACTORS.std(0)
NOISE = np.random.default_rng(2).normal(size=(N, K))
TURN = np.linalg.qr(np.random.default_rng(1).normal(size=(K, K)))[0]
HALF_TURN = np.eye(K)
HALF_TURN[:2, :2] = np.array([[1, 1], [-1, 1]]) / math.sqrt(2)
CODES = {
    "factors": PLAIN,
    "permuted, scaled, flipped": PLAIN[:, [2, 0, 3, 1]] * [3.0, -0.01, 1e3, -2.0] + 5,
    "each twice": np.hstack([PLAIN, PLAIN]),
    "two rotated": PLAIN @ HALF_TURN,
    "one missing": PLAIN[:, :3],
    "constant beside": np.hstack([PLAIN, np.full((N, 1), 7.0)]),
    "constant": np.full((N, K), 0.3),
    "noise": NOISE,
}
SCORES = {
    "beta-VAE": lambda z: beta_vae_score(z, FACTORS, points=400),
    "FactorVAE": lambda z: factor_vae_score(z, FACTORS, votes=800),
    "MIG": lambda z: mig(z, FACTORS),
    "SAP": lambda z: sap(z, FACTORS),
    "modularity": lambda z: modularity(z, FACTORS),
    "explicitness": lambda z: explicitness(z, FACTORS),
    "IRS": lambda z: irs(z, FACTORS),
}
KNOWN = {  # of codes made from four independent factors of five values
    "factors": (1, 1, 0.999, 0.999, 1, 1, 1),
    "permuted, scaled, flipped": (1, 1, 0.999, 0.999, 1, 1, 1),
    "each twice": (1, 1, 0, 0, 1, 1, 1),
    "two rotated": (0.78, 0.73, 0.50, 0.51, 0.83, 1, 0.70),
    "one missing": (1, 0.74, 0.75, 0.75, 1, 0.88, 1),
    "constant beside": (1, 1, 0.999, 0.999, 1, 1, 1),
    "constant": (0.25, 0, 0, 0, 0, 0.5, 0),
    "noise": (0.25, 0.25, 0, 0, 0.3, 0.5, 0.33),
}


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("code", CODES)
def test_known_answers(code, score):
    expected = KNOWN[code][list(SCORES).index(score)]
    found = SCORES[score](CODES[code])
    assert found == pytest.approx(expected, abs=0.06 if code == "noise" or score == "beta-VAE" else 0.03)


DCI_KNOWN = {
    "factors": (1, 1, 1),
    "permuted, scaled, flipped": (1, 1, 1),
    "each twice": (1, 0.67, 1),
    "two rotated": (0.75, 0.75, 1),
    "one missing": (0.6, 0.75, 0.8),
    "constant beside": (1, 1, 1),
    "constant": (0, 0, 0.2),
}


@pytest.mark.parametrize("code", DCI_KNOWN)
def test_dci(code):
    found = dci(CODES[code][:450], FACTORS[:450], trees=6)
    assert found[:3] == pytest.approx(DCI_KNOWN[code], abs=0.05)
    assert found.importance.shape == (CODES[code].shape[1], K)
    assert found.disentanglement == disentanglement(found.importance)


def test_dci_of_noise():
    """Boosting finds small importances of everything; a third of the rows say that none helps."""
    found = dci(NOISE[:450], FACTORS[:450], trees=6)
    assert found[:3] == pytest.approx((0, 0, 0.2), abs=0.07)


def test_a_generic_rotation_deceives_beta_vae_and_factor_vae_but_not_the_others():
    z = PLAIN @ TURN
    assert SCORES["beta-VAE"](z) > 0.8
    assert SCORES["FactorVAE"](z) > 0.8
    assert SCORES["explicitness"](z) == pytest.approx(1, abs=0.01)
    assert SCORES["MIG"](z) < 0.45
    assert SCORES["IRS"](z) < 0.65
    squares = np.sort(TURN**2, axis=1)  # of the correlations of factors and dimensions
    assert sap(z, FACTORS) == pytest.approx((squares[:, -1] - squares[:, -2]).mean(), abs=0.03)


def test_discrete_sap():
    two = np.random.default_rng(3).integers(0, 2, (N, K))
    assert sap(two + 0.01 * NOISE, two, continuous=False) == pytest.approx(0.5, abs=0.05)  # the second knows nothing
    assert sap(np.hstack([two, two]), two, continuous=False) == pytest.approx(0, abs=0.001)
    assert sap(NOISE, two, continuous=False) == pytest.approx(0, abs=0.05)
    assert 0.19 < sap(PLAIN, FACTORS, continuous=False) < 0.45  # both ends of five values, and one between at most


@pytest.mark.parametrize("name", [name for name in SCORES if name not in ("beta-VAE", "IRS")])
def test_order_sign_and_scale_do_not_matter(name):
    z = PLAIN @ TURN + 0.3 * NOISE
    tolerance = 0.03 if name in ("MIG", "modularity") else 1e-6  # the edges of bins turn over with the sign
    other = z[:, [3, 1, 0, 2]] * [1.0, -20.0, 0.1, -1.0] - 4
    assert SCORES[name](other) == pytest.approx(SCORES[name](z), abs=tolerance)


def test_equal_seeds_draw_the_same():
    def score(seed):
        return factor_vae_score(PLAIN @ TURN + 2 * NOISE, FACTORS, 200, seed=seed)

    assert score(4) == score(4) != score(5)


def test_two_factors_one_of_them_shown():
    two = FACTORS[:, :2]
    assert beta_vae_score(two[:, :1], two) == 1
    assert factor_vae_score(two[:, :1], two) == pytest.approx(0.5, abs=0.05)  # always the same dimension
    assert mig(two[:, :1], two) == pytest.approx(0.5, abs=0.01)
    assert sap(two[:, :1], two) == pytest.approx(0.5, abs=0.01)


def test_mutual_information_of_bits():
    x, y = np.repeat([0, 1], 8), np.tile([0, 1], 8)
    found = mutual_information(np.stack([x, x ^ y, 2 * x + y], 1), np.stack([x, y], 1))
    np.testing.assert_allclose(found, np.log(2) * np.array([[1, 0], [0, 0], [1, 1]]), atol=1e-12)


def test_mutual_information_of_a_table():
    """Against the definition: the divergence of the joint from the product of the margins."""
    joint, *_ = np.histogram2d(PLAIN[:, 0] + NOISE[:, 0], FACTORS[:, 0], bins=(20, VALUES))
    joint /= joint.sum()
    expected = rel_entr(joint, joint.sum(1, keepdims=True) * joint.sum(0)).sum()
    found = mutual_information(PLAIN + NOISE, FACTORS)
    assert found[0, 0] == pytest.approx(expected, abs=1e-9)
    coarse = np.digitize(NOISE[:, 1], np.histogram(NOISE[:, 1], 7)[1][1:-1])
    assert mutual_information(NOISE, FACTORS, bins=7)[1, 2] == pytest.approx(mutual_info_score(coarse, FACTORS[:, 2]))


def test_closed_forms_of_importance():
    pairs = np.kron(np.eye(5), np.ones((2, 1)))  # ten dimensions in identical pairs
    assert completeness(pairs) == pytest.approx(1 - math.log(2) / math.log(10))
    assert disentanglement(pairs) == pytest.approx(1)
    mixed = np.eye(10)
    mixed[0] = [0.5, 0.5, *[0] * 8]
    assert disentanglement(mixed[:1]) == pytest.approx(1 - math.log(2) / math.log(10))
    shares = mixed.sum(1) / mixed.sum()
    assert disentanglement(mixed) == pytest.approx(1 - shares[0] * math.log(2) / math.log(10))
    assert disentanglement(np.ones((6, 3))) == pytest.approx(0)
    assert disentanglement(np.zeros((6, 3))) == completeness(np.zeros((6, 3))) == 0
    scaled = np.array([[3.0, 0, 0], [0, 1, 1]])  # important dimensions count more
    assert disentanglement(scaled) == pytest.approx((3 * 1 + 2 * (1 - math.log(2) / math.log(3))) / 5)


def test_closed_forms_of_modularity():
    assert modularity_of(np.diag([1.0, 1.0, 0.0])) == pytest.approx(2 / 3)
    two = np.zeros((1, 10))
    two[0, :2] = 0.7
    assert modularity_of(two) == pytest.approx(1 - 1 / 9)


@pytest.mark.parametrize("rho", [0.0, 0.5, -0.8])
def test_dependence_of_two_gaussian_dimensions(rho):
    """Codes with exactly this correlation, of other scales."""
    white = NOISE[:, :2] - NOISE[:, :2].mean(0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False)).T)
    z = white @ np.linalg.cholesky([[1, rho], [rho, 1]]).T
    assert gaussian_total_correlation(3 * z + 1) == pytest.approx(-0.5 * math.log(1 - rho**2), abs=1e-9)
    squared = 4 - 2 * (math.sqrt(1 + rho) + math.sqrt(1 - rho))
    assert gaussian_wasserstein_correlation(3 * z + 1) == pytest.approx(squared / 2, abs=1e-6)


def test_total_correlation_of_many_dimensions():
    covariance = make_spd_matrix(5, random_state=3)
    z = np.random.default_rng(0).normal(size=(200_000, 5)) @ np.linalg.cholesky(covariance).T
    expected = 0.5 * (np.log(np.diag(covariance)).sum() - np.log(np.linalg.det(covariance)))
    assert gaussian_total_correlation(z) == pytest.approx(expected, abs=0.02)


def test_udr_of_equal_trainings():
    size, rng = 10, np.random.default_rng(0)
    z = rng.normal(size=(5000, size))
    dead = 0.01 * rng.normal(size=(5000, 2))
    turned = np.hstack([-3 * z[:, rng.permutation(size)], dead])
    assert udr([z, turned, z]) == pytest.approx([0.9] * 3, abs=0.01)
    chance = 1 / (1 + 0.8 * (size - 1) / math.sqrt(5000))  # chance correlations fill the denominator
    assert udr([z, turned], "spearman") == pytest.approx([chance] * 2, abs=0.02)
    assert udr([z, rng.normal(size=(5000, size))]) == pytest.approx([0, 0], abs=1e-9)
    assert udr([z, rng.normal(size=(5000, size))], "spearman").max() < 0.02


def test_udr_prefers_the_training_that_the_others_agree_with():
    rng = np.random.default_rng(1)
    z = rng.normal(size=(2000, 4))
    found = udr([z, z[:, ::-1], -z, z @ TURN])
    assert found[3] < found[:3].min() - 0.2


@pytest.mark.parametrize(
    ("similarity", "expected"), [(np.eye(3), 1), (np.ones((3, 3)), 1 / 3), (np.zeros((3, 3)), 0), (np.eye(4)[:2], 0.75)]
)
def test_relative_strength(similarity, expected):
    assert relative_strength(similarity) == pytest.approx(expected)


def test_interventions_on_ideal_codes():
    """A block of the changed factor moves all the way, a block of the others not at all, both together by its share."""
    donor = np.roll(FACTORS, 1, 0)
    changed = FACTORS.copy()
    changed[:, 0] = donor[:, 0]
    assert moved(FACTORS[:, :1], changed[:, :1], donor[:, :1]) == 1
    assert moved(FACTORS[:, 1:], changed[:, 1:], donor[:, 1:]) == 0
    assert moved(PLAIN @ TURN, (changed - FACTORS.mean(0)) / FACTORS.std(0) @ TURN, np.roll(PLAIN, 1, 0) @ TURN) == (
        pytest.approx(1 / K, abs=0.01)
    )
    assert math.isnan(moved(FACTORS * 0, FACTORS * 0, FACTORS * 0))


def test_the_total_effects_of_a_function_with_a_known_decomposition():
    """x1 + x2 x3 of independent standard normals: half of the variance is of x1, half of x2 and of x3 together."""
    rng = np.random.default_rng(0)
    x, donor = rng.normal(size=(2, 400_000, 3))

    def function(x):
        return (x[:, 0] + x[:, 1] * x[:, 2])[:, None]

    for column, expected in enumerate((0.5, 0.5, 0.5)):
        changed = x.copy()
        changed[:, column] = donor[:, column]
        assert moved(function(x), function(changed), function(donor)) == pytest.approx(expected, abs=0.01)


def test_blocks():
    importance = np.array([[3.0, 0, 0], [1, 0, 0], [0, 2, 1]])
    blocks = block_importance(importance, [2, 1])
    np.testing.assert_array_equal(blocks, [[4, 0, 0], [0, 2, 1]])
    assert disentanglement(block_importance(np.eye(4), [2, 2])) == pytest.approx(1 - math.log(2) / math.log(4))
    grouped = group_importance(block_importance(np.eye(4), [3, 1]), [0, 0, 0, 1])
    np.testing.assert_array_equal(grouped, np.eye(2))
    assert disentanglement(grouped) == 1
    leaking = group_importance(np.array([[1, 0.5, 0.5], [0, 0.5, 0.5]]), [0, 0, 1])
    np.testing.assert_allclose(leaking, [[0.75, 0.5], [0.25, 0.5]])
    assert completeness(blocks) == pytest.approx(1)
    assert completeness(np.ones((2, 3))) == pytest.approx(0)
    with pytest.raises(ValueError, match="are not the 3"):
        block_importance(importance, [2, 2])
    right = np.array([[1.0, 1, 0], [0, 0, 1]])
    assert block_gap(right, [0, 0, 1]) == 1
    assert block_gap(right, [1, 1, 0]) == -1
    assert block_gap(np.full((2, 3), 0.8), [0, 0, 1]) == 0


@pytest.mark.parametrize(
    ("codes", "factors", "message"),
    [
        (PLAIN.T, FACTORS, "must be .N, D. and factors"),
        (PLAIN, FACTORS[:, :1], "at least two columns"),
        (PLAIN, PLAIN, "must be integers"),
        (PLAIN * np.nan, FACTORS, "must be finite"),
        (PLAIN, FACTORS * [1, 0, 1, 1], r"columns \[1\] have one value"),
    ],
)
def test_what_cannot_be_scored_is_refused(codes, factors, message):
    with pytest.raises(ValueError, match=message):
        mig(codes, factors)


def test_udr_needs_two_trainings_on_the_same_images():
    for codes in ([PLAIN], [PLAIN, PLAIN[:7]]):
        with pytest.raises(ValueError, match="two trainings or more"):
            udr(codes)
