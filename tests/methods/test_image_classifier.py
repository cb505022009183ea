"""Image classification: one step on mixed images and on AugMix's views against straight PyTorch."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD
from torchvision.transforms import v2

from tests.methods.test_classifier import Flat
from tests.toys import ToyPair, trainer
from xdomain.errors import UserError
from xdomain.losses import jensen_shannon
from xdomain.methods import ImageClassifier


class Noise(nn.Module):
    def forward(self, images):
        return images + torch.randn_like(images)


def make(network, **options):
    linked = {"domains": ("red",), "channels": (3,), "image_size": 8}
    return ImageClassifier(network, optimizer=lambda p: SGD(p, lr=0.1), **linked, **options)


GOLDEN = {
    "ImageClassifier": lambda: (make(Flat(), augmix=Noise()), ToyPair()),
    "ImageClassifier with Mixup": lambda: (make(Flat(), mix=v2.MixUp(num_classes=3)), ToyPair()),
}


def step(loss, **options):
    """The weights after one step of the method, and after one of straight PyTorch on loss(network, images, labels)."""
    torch.manual_seed(0)
    network, straight = Flat(), Flat()
    straight.load_state_dict(network.state_dict())
    data = ToyPair()
    torch.manual_seed(5)
    trainer(max_steps=1, limit_val_batches=0).fit(make(network, **options), datamodule=data)
    batch, _, _ = next(iter(data.train_dataloader()))
    sample = data.on_after_batch_transfer(batch, 0)["a"]
    torch.manual_seed(5)
    loss(straight, sample.image, sample.label).backward()
    return network.head.weight.detach(), straight.head.weight.detach() - 0.1 * straight.head.weight.grad


def test_augmix_with_consistency():
    def loss(network, x, label):
        clean, one, two = (network(view) for view in (x, x + torch.randn_like(x), x + torch.randn_like(x)))
        return F.cross_entropy(clean, label) + 3 * jensen_shannon([clean, one, two])

    torch.testing.assert_close(*step(loss, augmix=Noise(), consistency=3.0))


@pytest.mark.parametrize("kind", [v2.MixUp, v2.CutMix])
def test_mixed_images_have_mixed_labels(kind):
    def loss(network, x, label):
        images, target = kind(num_classes=3)(x, label)
        assert target.shape == (len(x), 3)
        return -(target * network(images).log_softmax(1)).sum(1).mean()

    torch.testing.assert_close(*step(loss, mix=kind(num_classes=3)))


def test_one_way_of_mixing():
    with pytest.raises(UserError, match="mix is MixUp, but there is augmix"):
        make(Flat(), augmix=Noise(), mix=v2.MixUp(num_classes=3))
