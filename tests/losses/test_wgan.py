"""The critic's loss against closed forms."""

import pytest
import torch
from torch import nn

from xdomain.losses import gradient_penalty, l_critic


def linear(weights):
    """A critic of single pixels whose gradient is the same everywhere."""
    D = nn.Conv2d(3, 1, 1, bias=False)
    D.weight.data = torch.tensor(weights).view(1, 3, 1, 1)
    return D


@pytest.mark.parametrize(
    ("weights", "penalty"), [([0.0, 0.6, 0.8], 0.0), ([0.0, 3.0, 4.0], 16.0), ([0.3, 0.0, 0.4], 0.25)]
)
def test_penalty_of_a_linear_critic(weights, penalty):
    D, x = linear(weights), torch.randn(2, 3, 5, 4)
    assert gradient_penalty(D, x, torch.randn(2, 3, 5, 4)).item() == pytest.approx(penalty, abs=1e-5)


def test_penalty_is_taken_between_real_and_fake():
    # D(x) = |x|^2 / 2 at every position, so the gradient is x itself, on the line between the two images.
    def D(x):
        return x.square().sum(1, keepdim=True) / 2

    real, fake = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    fake[:, 0] = 1.0
    torch.manual_seed(3)
    u = torch.rand(()).item()
    torch.manual_seed(3)
    assert gradient_penalty(D, real, fake).item() == pytest.approx(u**2, rel=1e-4)  # (|1 - u| - 1)^2


def test_penalty_per_image_of_a_linear_critic():
    """D(x) is the sum of a x over all values, so that the gradient of every image is a."""
    slopes = torch.randn(3, 5, 4)
    expected = (slopes.square().sum().sqrt() - 1) ** 2

    def D(x):
        return (slopes * x).sum((1, 2, 3))

    found = gradient_penalty(D, torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4), per_image=True)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_penalty_per_image_is_taken_at_a_place_of_its_own_for_every_image():
    # D(x) = |x|^2 / 2, so the gradient is x itself: (1 - u) times fake, whose norm is 3.
    fake = torch.zeros(4, 1, 3, 3)
    fake[:, 0] = 1.0
    torch.manual_seed(3)
    u = torch.rand(4)
    torch.manual_seed(3)
    found = gradient_penalty(lambda x: x.square().sum((1, 2, 3)) / 2, torch.zeros(4, 1, 3, 3), fake, per_image=True)
    assert found.item() == pytest.approx((3 * (1 - u) - 1).square().mean().item(), rel=1e-4)
    assert len(set(u.tolist())) == 4


def test_gradients_of_the_penalty_equal_finite_differences():
    torch.manual_seed(0)
    D = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Conv2d(4, 1, 3)).double()
    real, fake = torch.randn(2, 2, 3, 7, 7, dtype=torch.float64)

    def value():
        torch.manual_seed(5)
        return gradient_penalty(D, real, fake)

    value().backward()
    weight = D[0].weight
    found, step = weight.grad[1, 2, 0, 1].item(), 1e-5
    with torch.no_grad():
        weight[1, 2, 0, 1] += step
    above = value().item()
    with torch.no_grad():
        weight[1, 2, 0, 1] -= 2 * step
    assert found == pytest.approx((above - value().item()) / (2 * step), rel=1e-4)


def test_loss_of_the_critic():
    D = linear([0.0, 3.0, 4.0])
    real, fake = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    real[:, 1] = 1.0  # scores 3
    fake[:, 2] = 0.5  # scores 2
    assert l_critic(D, real, fake, 0.1).item() == pytest.approx(2 - 3 + 0.1 * 16, abs=1e-5)
    assert l_critic(D, real, fake, 0.0).item() == pytest.approx(-1)


def test_no_gradient_reaches_the_generator():
    fake = torch.randn(1, 3, 4, 4, requires_grad=True)
    gradient_penalty(linear([0.0, 3.0, 4.0]), torch.randn(1, 3, 4, 4), fake).backward()
    assert fake.grad is None


def test_penalty_of_a_compiled_critic():
    torch.manual_seed(0)
    D = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Conv2d(4, 1, 3))
    real, fake, penalties = torch.randn(1, 3, 7, 7), torch.randn(1, 3, 7, 7), []
    for compiled in (False, True):
        if compiled:
            D.compile(backend="aot_eager")  # which knows no gradients of gradients
        torch.manual_seed(0)
        penalties.append(gradient_penalty(D, real, fake))
        D.zero_grad()
        penalties[-1].backward()
        penalties.append(D[0].weight.grad.clone())
    torch.testing.assert_close(penalties[:2], penalties[2:])


def test_penalty_in_mixed_precision_is_that_in_float32():
    torch.manual_seed(0)
    D = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Conv2d(4, 1, 3))
    real, fake = torch.randn(1, 3, 7, 7), torch.randn(1, 3, 7, 7).bfloat16()
    for per_image in (False, True):
        torch.manual_seed(0)
        expected = gradient_penalty(D, real, fake.float(), per_image)
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            penalty = gradient_penalty(D, real, fake, per_image)
        assert penalty.dtype == torch.float32
        assert penalty.item() == expected.item()
