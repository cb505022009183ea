"""Random pictures of two domains for the methods of content transfer, and what every update of a step does."""

from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch.optim import SGD

from tests.toys import ToyPair, trainer
from xdomain.data import ImageData

SIZE = 16
TINY = {"sep": 2, "width": 4}


class Faces(ToyPair):
    """Two domains of random 16x16 colour images."""

    domains = ("plus", "plain")
    channels = (3, 3)
    image_size = SIZE

    def data(self, role, split):
        rng = np.random.default_rng([ord(role), *split.encode()])
        return ImageData(rng.integers(0, 256, (12, 3, SIZE, SIZE), dtype=np.uint8), rng.integers(0, 2, 12))


class Update(NamedTuple):
    """An update as its optimiser found it: its name, the state of the method and the gradients before clipping."""

    name: str
    state: dict[str, torch.Tensor]
    gradients: dict[str, torch.Tensor]


class Watch(pl.Callback):
    """Keeps every update."""

    def __init__(self):
        self.updates = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        name = next(n for n in pl_module.build_optimizers() if pl_module.named_optimizer(n) is optimizer)
        state = {n: v.clone() for n, v in pl_module.state_dict().items()}
        owned = {n: p.grad for n, p in pl_module.named_parameters() if id(p) in own}
        gradients = {n: gradient.clone() for n, gradient in owned.items() if gradient is not None}
        self.updates.append(Update(name, state, gradients))


def sgd(parameters):
    return SGD(parameters, lr=0.1)


def make(method, **options):
    """A method with a few thousand weights."""
    torch.manual_seed(1)
    tiny = {k: v for k, v in TINY.items() if k == "width" or method.__name__ != "FaderNetwork"}
    common = {"domains": Faces.domains, "channels": Faces.channels, "image_size": SIZE, "optimizer": sgd}
    return method(**{**common, **tiny, **options})


def fitted(method, steps=1, data=None, **options):
    """The trainer of a run."""
    run = trainer(max_steps=steps, limit_val_batches=0, log_every_n_steps=1, **options)
    run.fit(method, datamodule=data or Faces())
    return run


def one_step(method):
    """The two updates of one batch, in their order."""
    watch = Watch()
    run = fitted(method, callbacks=[watch])
    return watch.updates, {name: value.item() for name, value in run.callback_metrics.items()}


def first_batch():
    """The images of both domains that a run begins with."""
    batch, _, _ = next(iter(Faces().train_dataloader()))
    return batch["a"].image.float() / 127.5 - 1, batch["b"].image.float() / 127.5 - 1


def pictures(seed, count=3):
    """Images in [-1, 1]."""
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def assert_gradients(gradients, loss, method, noise=0.0):
    """That the gradients are those of a loss computed by ``method``, and that they are at work.

    ``noise`` is allowed as a share of the largest: biases in front of an InstanceNorm have no gradient but rounding.
    """
    parameters = {name: p for name, p in method.named_parameters() if name in gradients}
    expected = torch.autograd.grad(loss, list(parameters.values()))
    largest = max(slope.abs().max() for slope in expected)
    assert largest > 1e-3
    atol = 2e-6 + noise * float(largest)
    for name, slope in zip(parameters, expected, strict=True):
        torch.testing.assert_close(gradients[name], slope, rtol=2e-3, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


def owners(gradients):
    """The networks whose weights have gradients."""
    return {name.split(".")[0] for name in gradients}


def millions(network):
    """Number of parameters as the tables print it."""
    return f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f}"


def moved(method, state):
    """Names of networks with a parameter that is no longer what ``state`` has."""
    changed = {n for n, p in method.named_parameters() if not torch.equal(p, state[n])}
    return owners(dict.fromkeys(changed))
