"""Linear probes against what theory says of Gaussians."""

import math

import pytest
import torch

from xdomain.metrics import probe_balanced_accuracy, proxy_a_distance


def gaussians(n, share=0.5, shift=1.0, dims=4, seed=0):
    """Codes whose first dimension has the mean +-shift by class; the second dimension is constant."""
    generator = torch.Generator().manual_seed(seed)
    truth = (torch.rand(n, generator=generator) < share).long()
    codes = torch.randn(n, dims, generator=generator)
    codes[:, 0] += shift * (2 * truth - 1)
    codes[:, 1] = 3e6
    return codes * 100 + 5, truth


@pytest.mark.parametrize(("shift", "share"), [(0.0, 0.5), (1.0, 0.5), (1.0, 0.05), (6.0, 0.5)])
def test_the_best_linear_classifier_is_found(shift, share):
    """Balanced accuracy is Phi(shift), however rare one of the classes is."""
    found = probe_balanced_accuracy(*gaussians(4000, share, shift), *gaussians(8000, share, shift, seed=1))
    assert found == pytest.approx((1 + math.erf(shift / 2**0.5)) / 2, abs=0.03)
    assert found.dtype == torch.float32


def test_at_most_2000_rows_by_seed():
    codes, truth = gaussians(2000, shift=0.3, dims=40)
    test = gaussians(3000, shift=0.3, dims=40, seed=1)
    longer = torch.cat([codes, codes.roll(1, 0)]), torch.cat([truth, truth])
    assert probe_balanced_accuracy(codes, truth, *test) == probe_balanced_accuracy(codes, truth, *test, seed=5)
    assert probe_balanced_accuracy(*longer, *test) != probe_balanced_accuracy(*longer, *test, seed=5)


def test_one_class_is_no_question():
    codes, truth = gaussians(50)
    assert probe_balanced_accuracy(codes, truth * 0, codes, truth).isnan()
    assert probe_balanced_accuracy(codes, truth, codes, truth * 0).isnan()


@pytest.mark.parametrize("shift", [0.0, 0.5, 6.0])
def test_domains_whose_distance_is_known(shift):
    """Two Gaussians at +-shift: the error is Phi(-shift), the distance 2 (1 - 2 Phi(-shift)), 0 to 2."""

    def domains(n, seed):
        codes, truth = gaussians(n, shift=shift, seed=seed)
        return codes[truth == 0], codes[truth == 1]

    error = (1 - math.erf(shift / 2**0.5)) / 2
    found = proxy_a_distance(*domains(4000, 0), *domains(6000, 1))
    assert found == pytest.approx(2 * (1 - 2 * error), abs=0.1)
