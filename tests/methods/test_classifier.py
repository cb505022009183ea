"""The classifier: one step against straight PyTorch, grey and RGB, refused networks."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD

from tests.toys import ToyPair, trainer
from xdomain.errors import UserError
from xdomain.methods import Classifier


class Flat(nn.Module):
    in_channels, classes, dim = 3, 3, 192

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(192, 3)

    def forward(self, images):
        return self.head(images.flatten(1))


def make(network, **options):
    linked = {"domains": ("red",), "channels": (3,), "image_size": 8}
    return Classifier(network, optimizer=lambda p: SGD(p, lr=0.1), **linked, **options)


GOLDEN = {"Classifier": lambda: (make(Flat(), label_smoothing=0.1), ToyPair())}


def test_one_step_equals_straight_pytorch():
    torch.manual_seed(0)
    network, straight = Flat(), Flat()
    straight.load_state_dict(network.state_dict())
    data = ToyPair()
    trainer(max_steps=1, limit_val_batches=0).fit(make(network, label_smoothing=0.1), datamodule=data)
    batch, _, _ = next(iter(data.train_dataloader()))
    sample = data.on_after_batch_transfer(batch, 0)["a"]
    F.cross_entropy(straight(sample.image), sample.label, label_smoothing=0.1).backward()
    with torch.no_grad():
        expected = straight.head.weight - 0.1 * straight.head.weight.grad
    torch.testing.assert_close(network.head.weight.detach(), expected)


def test_grey_images_are_repeated_for_an_rgb_network():
    model, grey = make(Flat()), torch.rand(2, 1, 8, 8)
    assert torch.equal(model(grey), model(grey.expand(-1, 3, -1, -1)))


def test_other_channels_are_refused():
    network = Flat()
    network.in_channels = 9
    with pytest.raises(UserError, match="in_channels is 9"):
        make(network)
