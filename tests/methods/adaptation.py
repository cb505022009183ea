"""Tiny versions of the methods that adapt classifiers, their data, and gradients of their losses."""

from functools import partial

import numpy as np
import torch
from torch.nn import functional as F
from torch.optim import SGD

from tests.methods.faces import Watch
from tests.toys import ToyPair, trainer
from xdomain.batch import to_channels, to_float
from xdomain.data import ImageData
from xdomain.methods import ADDA, DANN, DomainConfusion
from xdomain.networks import DomainDiscriminator, LeNet, MNISTNet

LR, CLASSES, SIZE = 0.1, 3, 16
KINDS = {"ADDA": ADDA, "DANN": DANN, "DomainConfusion": DomainConfusion}


class Digits(ToyPair):
    """Two domains of random images, RGB and grey, with labels."""

    image_size = SIZE

    def data(self, role, split):
        rng = np.random.default_rng([ord(role), *split.encode()])
        shape = (20, {"a": 3, "b": 1}[role], SIZE, SIZE)
        return ImageData(rng.integers(0, 256, shape, dtype=np.uint8), rng.integers(0, CLASSES, 20))


FACTS = {"domains": Digits.domains, "channels": Digits.channels, "image_size": SIZE}


def network(**options):
    return MNISTNet(3, CLASSES, SIZE, widths=(4, 6), hidden=(8,), **options)


def settings(kind):
    common = {"network": network(), "optimizer": partial(SGD, lr=LR), **FACTS}
    common["discriminator"] = partial(DomainDiscriminator, hidden=(8,))
    if kind is not ADDA:
        return {**common, "weight": 0.7, **({"steps": 4} if kind is DANN else {})}
    phases = {"source_steps": 2, "steps": 2, "source_optimizer": partial(SGD, lr=LR)}
    return {**common, **phases, "network": LeNet(3, CLASSES, SIZE, widths=(6, 8), hidden=12)}


def make(kind, **options):
    """A method with a few thousand weights."""
    torch.manual_seed(1)
    known = next(known for known in KINDS.values() if issubclass(kind, known))
    return kind(**{**settings(known), **options})


def fitted(method, steps=4, data=None, **options):
    run = trainer(max_steps=steps, max_epochs=-1, limit_val_batches=0, log_every_n_steps=1, **options)
    run.fit(method, datamodule=data or Digits())
    return run


def updates(method, steps=4):
    """Every update of a training, in order."""
    watch = Watch()
    fitted(method, steps, callbacks=[watch])
    return watch.updates


def batches(count):
    """Images of both domains, RGB, and labels of the first, of the first batches of a training."""
    loader = iter(Digits().train_dataloader())
    for _ in range(count):
        batch, _, _ = next(loader)
        yield *(to_channels(to_float(batch[role].image), 3) for role in "ab"), batch["a"].label


def told_apart(d_a, d_b):
    """Loss of a classifier of domains: the first is 0, the second 1."""
    return F.softplus(d_a).mean() + F.softplus(-d_b).mean()


def undecided(logits):
    """Cross-entropy of an even chance with what a classifier of domains says."""
    return (F.softplus(logits) + F.softplus(-logits)).mean() / 2


def slopes(loss, module, name):
    """Gradients of a loss by the weights of a module, by their names in the method."""
    parameters = {f"{name}.{n}": p for n, p in module.named_parameters()}
    found = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
    given = zip(parameters.items(), found, strict=True)
    return {n: torch.zeros_like(p) if slope is None else slope for (n, p), slope in given}


def assert_slopes(found, expected):
    """That gradients are the expected ones, and that they are at work."""
    assert found.keys() == expected.keys()
    assert max(slope.abs().max() for slope in expected.values()) > 1e-3
    for name, slope in expected.items():
        torch.testing.assert_close(found[name], slope, rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")
