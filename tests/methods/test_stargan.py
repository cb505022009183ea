"""StarGAN against its formulas."""

import pytest
import torch

from tests.methods.editors import Heads, Order, assert_updates, cross_entropy, make, penalty
from tests.methods.faces import fitted
from xdomain.methods import StarGAN
from xdomain.optim import GANAdam

GOLDEN = {"StarGAN": lambda: (make(StarGAN, critic_updates=2, optimizer=GANAdam), Heads())}


@pytest.mark.parametrize(("step", "names"), [(0, "d"), (1, "dg"), (2, "d")])
def test_gradients_of_a_batch_in_64_bits(step, names):
    m = make(StarGAN)

    def naive(x, own, target):
        def d():
            fake = m.G(x, target).detach()
            scores = m.D(fake)[0].mean() - m.D(x)[0].mean()
            return scores + 10 * penalty(m.D, x, fake) + cross_entropy(m.D(x)[1], own).sum() / len(x)

        def g():
            wanted = cross_entropy(m.D(m.G(x, target))[1], target).sum() / len(x)
            again = (m.G(m.G(x, target), own) - x).abs().mean()
            return -m.D(m.G(x, target))[0].mean() + wanted + 10 * again

        return [(name, d if name == "d" else g) for name in names]

    assert_updates(m, naive, step)


def test_every_fifth_batch_trains_the_generator_as_well():
    method = make(StarGAN, critic_updates=5)
    order = Order(method)
    fitted(method, steps=10, data=Heads())
    assert order.names == [(i, name) for i in range(10) for name in ("dg" if i in (4, 9) else "d")]


def test_weights_of_the_paper():
    with torch.device("meta"):
        method = StarGAN(domains=("face",), channels=(3,), image_size=128, attributes=["Young"])
    assert method.weights == {"l_penalty": 10, "l_wanted": 1, "l_cycle": 10}
    assert method.critic_updates == 5
