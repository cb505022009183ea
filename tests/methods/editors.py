"""Tiny versions of the methods that edit attributes by name, and their data."""

from types import SimpleNamespace

import numpy as np
import torch

from tests.methods.test_shared_passes import gradients, gradients_of
from tests.toys import trainer
from xdomain.data import ImageData
from xdomain.data.attributes import AttributeDomains
from xdomain.networks import (
    AttGANDiscriminator,
    AttGANGenerator,
    StarGANDiscriminator,
    StarGANGenerator,
    STGANGenerator,
)

SIZE = 16


class Heads(AttributeDomains):
    """Random images of 16x16 with four attributes; black and blond exclude each other."""

    attribute_names = ("Black", "Blond", "Glasses", "Grin")
    image_size = SIZE

    def __init__(self, domains=None, **options):
        super().__init__(domains or {"head": "*"}, **{"batch_size": 4, "eval_batch_size": 4, **options})

    def load(self, split):
        rng = np.random.default_rng([*split.encode()])
        table = rng.integers(0, 2, (24, 4), dtype=np.uint8)
        table[:, 1] &= 1 - table[:, 0]
        return ImageData(rng.integers(0, 256, (24, 3, SIZE, SIZE), dtype=np.uint8), np.arange(24) // 2, table)


def generator(channels, size, attributes):
    return AttGANGenerator(channels, size, attributes, width=4)


def selective(channels, size, attributes):
    return STGANGenerator(channels, size, attributes, width=4)


def starred(channels, size, attributes):
    return StarGANGenerator(channels, size, attributes, width=4, blocks=1)


def discriminator(channels, size, attributes):
    return AttGANDiscriminator(channels, size, attributes, width=4, hidden=8)


def of_patches(channels, size, attributes):
    return StarGANDiscriminator(channels, size, attributes, width=4)


NETWORKS = {
    "AttGAN": {"generator": generator, "discriminator": discriminator},
    "STGAN": {"generator": selective, "discriminator": discriminator},
    "StarGAN": {"generator": starred, "discriminator": of_patches},
}
NAMES = ["Black", "Blond", "Glasses"]


def make(kind, **options):
    torch.manual_seed(1)
    common = {"domains": ("head",), "channels": (3,), "image_size": SIZE, "attributes": NAMES, "critic_updates": 2}
    sgd = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.01)}
    return kind(**{**common, **sgd, **NETWORKS[kind.__name__], **options})


def heads(count=4):
    """Images and attributes of a batch in 64 bits, and the targets that seed 5 draws."""
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(count, 3, SIZE, SIZE, generator=draw, dtype=torch.float64).tanh()
    table = torch.from_numpy(Heads().table("train")[:count])
    torch.manual_seed(5)
    own = table[:, :3].double()
    return SimpleNamespace(image=x, attributes=table), own, own[torch.randperm(count)]


def penalty(D, real, fake):
    """WGAN-GP's penalty by Gulrajani's formula, with the numbers that are drawn after the targets."""
    torch.manual_seed(5)
    torch.randperm(len(real))
    u = torch.rand(len(real), 1, 1, 1).to(real)
    between = (u * real + (1 - u) * fake).detach().requires_grad_()
    (slope,) = torch.autograd.grad(D(between)[0].sum(), between, create_graph=True)
    return ((slope.square().sum((1, 2, 3)).sqrt() - 1) ** 2).mean()


def cross_entropy(logits, wanted):
    """Of every attribute of every image."""
    p = 1 / (1 + (-logits).exp())
    return -(wanted * p.log() + (1 - wanted) * (1 - p).log())


def assert_updates(method, naive, step):
    """That a batch has these updates, with the gradients of losses that have a pass for every term."""
    method = method.double()
    method.own = lambda table: table[:, :3].double()
    sample, own, target = heads()
    expected = naive(sample.image, own, target)
    torch.manual_seed(5)
    updates = gradients_of(method, {"a": sample}, step)
    assert [name for name, _ in updates] == [name for name, _ in expected]
    for (name, found), (_, loss) in zip(updates, expected, strict=True):
        slopes = gradients(loss(), {n: p for n, p in method.named_parameters() if n in found})
        assert {n.split(".")[0] for n in found} == {name.upper()}
        largest = max(float(slope.abs().max()) for slope in slopes.values())
        assert largest > 1e-4
        for key, slope in slopes.items():
            torch.testing.assert_close(found[key], slope, rtol=1e-6, atol=1e-9 * largest, msg=f"{name}: {key}")


def run(kind, folder, stop, resume=False):
    """The checkpoint at the end of a run of flipped images."""
    job = trainer(max_steps=stop, max_epochs=-1, limit_val_batches=0, run_dir=str(folder))
    checkpoint = str(folder / "checkpoints/last.ckpt") if resume else None
    method = make(kind, optimizer=torch.optim.Adam)
    job.fit(method, datamodule=Heads(), ckpt_path=checkpoint, weights_only=True)
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


class Order:
    """Names of the updates of a method, batch after batch."""

    def __init__(self, method):
        self.names, step = [], method.step

        def noted(name, loss):
            self.names.append((method.trainer.global_step, name))
            return step(name, loss)

        method.step = noted
