"""STGAN: AttGAN's formulas with a difference for a label."""

import pytest
import torch

from tests.methods.editors import Heads, assert_updates, make
from tests.methods.test_attgan import losses
from xdomain.methods import STGAN
from xdomain.networks import AttGANDiscriminator, STGANGenerator
from xdomain.optim import GANAdam

GOLDEN = {"STGAN": lambda: (make(STGAN, critic_updates=1, optimizer=GANAdam), Heads())}


@pytest.mark.parametrize(("step", "name"), [(1, "d"), (2, "g")])
def test_gradients_of_a_batch_in_64_bits(step, name):
    m = make(STGAN)

    def naive(x, own, target):
        d, g = losses(m, x, own, target, target - own, torch.zeros_like(own))
        return [(name, d if name == "d" else g)]

    assert_updates(m, naive, step)


def test_the_difference_says_what_to_add_and_what_to_take_away():
    own, target = torch.tensor([[1.0, 1, 0, 0]]), torch.tensor([[1.0, 0, 1, 0]])
    assert make(STGAN).label(own, target).tolist() == [[0, -1, 1, 0]]


def test_networks_and_weights_of_the_paper():
    with torch.device("meta"):
        method = STGAN(domains=("face",), channels=(3,), image_size=128, attributes=["Young"])
    assert (type(method.G), type(method.D)) == (STGANGenerator, AttGANDiscriminator)
    assert method.weights == {"l_penalty": 10, "l_wanted": 10, "l_reconstruction": 100}
    assert method.critic_updates == 5
