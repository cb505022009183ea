"""FID, KID and IS against scipy, numpy, closed forms and torchmetrics."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore as ReferenceInceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from xdomain.batch import to_float
from xdomain.features.classifier import ClassifierExtractor
from xdomain.features.random_conv import RandomConv
from xdomain.metrics.base import Count
from xdomain.metrics.distribution import FID, KID, InceptionScore, frechet_distance
from xdomain.networks import HalfResolutionClassifier


@pytest.fixture(scope="module")
def extractor():
    return RandomConv()


@pytest.fixture(scope="module")
def images():
    """Smooth pictures, so that noise makes them unlike each other."""
    coarse = torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return nn.functional.interpolate(coarse, size=(16, 16), mode="bilinear")


def covariance(dim, rank, seed):
    x = np.random.default_rng(seed).normal(size=(dim, rank))
    return x @ x.T / rank


def value(metric):
    result = metric.compute()
    return (result[0] if isinstance(result, tuple) else result).item()


def filled(metric, real, fake):
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return metric


def test_frechet_distance_is_scipys():
    mu1, mu2 = np.random.default_rng(0).normal(size=(2, 12))
    cov1, cov2 = covariance(12, 30, 1), covariance(12, 40, 2)
    root = scipy.linalg.sqrtm(cov1 @ cov2).real
    expected = ((mu1 - mu2) ** 2).sum() + np.trace(cov1 + cov2 - 2 * root)
    ours = frechet_distance(*map(torch.from_numpy, (mu1, cov1, mu2, cov2)))
    assert ours.item() == pytest.approx(expected, rel=1e-9)
    assert ours.dtype == torch.float64


def test_frechet_distance_of_independent_dimensions_has_a_closed_form():
    mu1, mu2 = torch.randn(2, 7).double()
    std1, std2 = torch.rand(2, 7).double()
    std1[2] = std2[3] = 0  # singular
    ours = frechet_distance(mu1, torch.diag(std1**2), mu2, torch.diag(std2**2))
    torch.testing.assert_close(ours, (mu1 - mu2).square().sum() + (std1 - std2).square().sum())


def test_frechet_distance_takes_singular_covariances():
    a, b = (torch.from_numpy(covariance(20, rank, 3)) for rank in (4, 6))
    mu = torch.zeros(20)
    assert 0 <= frechet_distance(mu, a, mu, a) < 1e-12
    assert frechet_distance(mu, a, mu, torch.zeros(20, 20)).item() == pytest.approx(a.trace().item())
    assert frechet_distance(mu, a, mu, b) == pytest.approx(frechet_distance(mu, b, mu, a).item())
    # scaling all deviations by s moves a Gaussian by (s - 1)^2 tr(cov)
    assert frechet_distance(mu, a, mu, 9 * a).item() == pytest.approx(4 * a.trace().item())


def test_fid_is_torchmetrics(extractor, images):
    other = images[:25] * 0.5 + 0.2
    theirs = FrechetInceptionDistance(feature=Frozen(extractor), normalize=False)
    ours = filled(FID(extractor), images[:30], other)
    filled(theirs, images[:30], other)
    assert value(ours) == pytest.approx(theirs.compute().item(), rel=1e-3)
    assert ours.n == Count(30, 25)
    assert ours.name == "fid@random-conv"


class Frozen(nn.Module):
    """An extractor as torchmetrics wants it; the features are double, or its covariances are poor."""

    def __init__(self, extractor):
        super().__init__()
        self.extractor, self.num_features = extractor, extractor.dim

    def forward(self, x):
        if x.dtype == torch.uint8:  # the dummy with which torchmetrics asks for the dimension
            x = to_float(x)
        return self.extractor(x).double()


def direct_kid(x, y):
    """Squared MMD, unbiased, pair by pair (Gretton et al. 2012, eq. 3)."""
    x, y = x.double().numpy(), y.double().numpy()

    def kernel(a, b):
        return (a @ b / len(a) + 1) ** 3

    within = sum(kernel(a, b) for z in (x, y) for i, a in enumerate(z) for j, b in enumerate(z) if i != j)
    assert len(x) == len(y)
    across = np.mean([kernel(a, b) for a in x for b in y])
    return within / (len(x) * (len(x) - 1)) - 2 * across


@pytest.mark.parametrize("chunk", [4, 1000])
def test_kid_is_the_direct_sum(chunk):
    x, y = torch.randn(15, 480), torch.randn(15, 480) * 1.5 + 0.1
    metric = filled(KID(RandomConv(), subset_size=15, chunk=chunk), x, y)
    mean, std = metric.compute()
    assert mean.item() == pytest.approx(direct_kid(x, y), rel=1e-5)
    assert std < 1e-6
    assert metric.used_subset_size == 15


def test_kid_averages_over_subsets(extractor):
    x, y = torch.randn(40, 480), torch.randn(60, 480) * 1.3
    mean, std = filled(KID(extractor, subsets=400, subset_size=20), x, y).compute()
    draw = np.random.default_rng(0)
    values = [direct_kid(x[draw.permutation(40)[:20]], y[draw.permutation(60)[:20]]) for _ in range(40)]
    assert mean.item() == pytest.approx(np.mean(values), abs=4 * np.std(values) / 40**0.5)
    assert std.item() == pytest.approx(np.std(values), rel=0.4)


def test_kid_is_torchmetrics(extractor, images):
    theirs = KernelInceptionDistance(feature=Frozen(extractor), subsets=3, subset_size=20)
    assert value(filled(KID(extractor, subset_size=20), images[:20], images[20:])) == pytest.approx(
        filled(theirs, images[:20], images[20:]).compute()[0].item(), rel=1e-4
    )


def test_kid_has_no_bias_where_fid_has(extractor):
    draws = torch.Generator().manual_seed(0)
    pairs = torch.randn(30, 2, 30, 480, generator=draws)
    kids = [value(filled(KID(extractor, subsets=10), x, y)) for x, y in pairs]
    assert abs(np.mean(kids)) < 3 * np.std(kids) / 30**0.5
    assert value(filled(FID(extractor), *pairs[0])) > 100


def test_kid_leaves_the_random_state_alone(extractor):
    state = torch.get_rng_state()
    filled(KID(extractor), torch.ones(9, 480), torch.zeros(8, 480)).compute()
    assert torch.equal(torch.get_rng_state(), state)


def test_subset_size_is_checked_and_reported(extractor):
    metric = filled(KID(extractor, subset_size=9), torch.randn(20, 480), torch.randn(8, 480))
    with pytest.raises(ValueError, match="subset_size 9 does not fit 20 real and 8 generated images"):
        metric.compute()
    metric = filled(KID(extractor), torch.randn(20, 480), torch.randn(9, 480))
    metric.compute()
    assert metric.used_subset_size == 4
    assert metric.n == Count(20, 9)
    metric.reset()
    metric.update(torch.randn(3, 480), real=True)
    with pytest.raises(ValueError, match="does not fit 3 real and 0 generated"):
        metric.compute()


@pytest.mark.parametrize("kind", [FID, KID])
def test_distances_grow_with_noise(kind, extractor, images):
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    values = [value(filled(kind(extractor), images, images + s * noise)) for s in (0, 0.05, 0.1, 0.2, 0.4)]
    assert values == sorted(values)
    assert -1e-3 < values[0] <= 1e-6  # KID is a little below 0 for a set and itself
    assert values[-1] > 10 * abs(values[0])


@pytest.mark.parametrize("kind", [FID, KID])
def test_values_outside_the_range_are_clamped(kind, extractor, images):
    wild = images * 3
    assert value(filled(kind(extractor), images, wild)) == value(filled(kind(extractor), images, wild.clamp(-1, 1)))


@pytest.mark.parametrize("kind", [FID, KID])
def test_order_batches_and_processes_do_not_matter(kind, extractor, images):
    real, fake = images[:20], images[20:] * 0.7
    whole = filled(kind(extractor), real, fake)
    order = torch.randperm(20)
    shuffled = kind(extractor)
    for part in order.split(7):
        filled(shuffled, real[part], fake[part.flip(0)])
    assert value(shuffled) == pytest.approx(value(whole), rel=1e-4, abs=1e-7)

    half, other = kind(extractor), kind(extractor)
    filled(half, real[:8], fake[:15])
    filled(other, real[8:], fake[15:])
    half.merge_state(other)
    assert value(half) == pytest.approx(value(whole), rel=1e-4, abs=1e-7)
    assert half.n == whole.n == Count(20, 20)


def test_lists_that_were_gathered_count_right(extractor):
    """After the processes have met, a list state is one tensor."""
    metric = filled(KID(extractor), torch.randn(7, 480), torch.randn(6, 480))
    before = metric.compute()
    metric.real, metric.fake = torch.cat(metric.real), torch.cat(metric.fake)
    metric._computed = None
    assert metric.compute() == before
    assert metric.n == Count(7, 6)


def test_features_serve_in_place_of_images(extractor, images):
    for kind in (FID, KID):
        features = filled(kind(extractor), *map(extractor.features, (images[:20], images[20:])))
        assert value(features) == value(filled(kind(extractor), images[:20], images[20:]))


def test_fid_needs_two_images_of_either_kind(extractor, images):
    with pytest.raises(ValueError, match="needs 2 real and 2 generated images, not 1 and 5"):
        filled(FID(extractor), images[:1], images[:5]).compute()


class Given(nn.Module):
    """A classifier whose logits are the first pixels of the image."""

    dim, in_channels, classes = 1, 1, 4
    features = nn.Identity()

    def forward(self, images):
        return 50 * images.flatten(1)[:, :4]


def one_hot(classes):
    return nn.functional.one_hot(torch.as_tensor(classes), 4).float().view(-1, 1, 2, 2)


def score(images, splits=1):
    metric = InceptionScore(ClassifierExtractor(Given(), "given"), splits)
    metric.update(images)
    return metric


def test_inception_score_counts_the_classes():
    assert value(score(one_hot([0, 1, 2, 3] * 3))) == pytest.approx(4, rel=1e-5)
    assert value(score(one_hot([0, 1] * 6))) == pytest.approx(2, rel=1e-5)
    assert value(score(one_hot([2] * 6))) == pytest.approx(1, rel=1e-5)
    assert value(score(torch.zeros(6, 1, 2, 2))) == pytest.approx(1, rel=1e-5)


def test_inception_score_is_torchmetrics():
    images = torch.rand(21, 1, 2, 2) * 0.1
    theirs = ReferenceInceptionScore(feature=Given(), splits=1)
    theirs.update(images)
    ours = score(images)
    assert value(ours) == pytest.approx(theirs.compute()[0].item(), rel=1e-5)
    assert ours.n == Count(0, 21)
    assert ours.name == "is@given"


def test_inception_score_of_parts():
    images = torch.rand(40, 1, 2, 2) * 0.05
    mean, std = score(images, splits=4).compute()
    assert std > 0
    again, _ = score(images.flip(0), splits=4).compute()
    torch.testing.assert_close(again, mean)
    half, other = score(images[:10], splits=4), score(images[10:], splits=4)
    half.merge_state(other)
    torch.testing.assert_close(half.compute()[0], mean)
    with pytest.raises(ValueError, match="3 images cannot be cut into 4 parts"):
        score(images[:3], splits=4).compute()


def test_inception_score_is_clamped_and_survives_certainty():
    wild = one_hot([0, 1, 2, 3]) * 2 - torch.rand(4, 1, 2, 2) * 3
    assert value(score(wild)) == value(score(wild.clamp(-1, 1)))
    metric = InceptionScore(ClassifierExtractor(HalfResolutionClassifier(), "toy"), splits=1)
    metric.logits.append(torch.tensor([[0.0, -2000.0], [0.0, -2000.0]]))
    metric._update_count = 1
    assert value(metric) == 1
