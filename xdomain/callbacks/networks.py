"""The networks that a method calls, and a method with fresh ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning.cli import instantiate_module
from torch import nn

from xdomain.errors import UserError
from xdomain.features.helpers import Helper
from xdomain.methods import Method
from xdomain.networks.classifier import FeatureClassifier
from xdomain.networks.consingan import GrowingGenerator
from xdomain.networks.parameters import ParameterEncoder

IN_PARTS = (Helper, FeatureClassifier, GrowingGenerator, ParameterEncoder)
"""Modules with methods besides ``forward`` that call their parts one by one."""


def called_networks(module: nn.Module) -> Iterator[nn.Module]:
    """The networks of a method that are called as a whole; lists and other containers are unpacked.

    Args:
        module: the method.
    """
    for child in module.children():
        if isinstance(child, IN_PARTS) or type(child).forward is nn.Module.forward:  # without its own forward
            yield from called_networks(child)
        else:
            yield child


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw random numbers as a pure function of a seed, without affecting those of the training."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def with_fresh_weights(method: Method, seed: int = 0, **changes: Any) -> Method:
    """A method of the same settings with initial weights, on the same device, in evaluation mode.

    Args:
        method: the method.
        seed: seed of the weights.
        changes: settings that differ.
    """
    settings = {name: value for name, value in method.hparams.items() if name != "_instantiator"} | changes
    with seeded(seed, method.device):
        made = instantiate_module(Method, settings) if "_class_path" in settings else type(method)(**settings)
    return made.to(method.device).eval()


def named_network(owner: object, module: nn.Module, name: str) -> nn.Module:
    """A network of a method.

    Args:
        owner: the callback whose option ``networks`` names it.
        module: the method.
        name: name of the attribute.

    Raises:
        UserError: if the method has no such network.
    """
    network = getattr(module, name, None)
    if not isinstance(network, nn.Module):
        known = ", ".join(name for name, _ in module.named_children())
        raise UserError(f"{type(owner).__name__}.networks names {name!r}, but {type(module).__name__} has: {known}.")
    return network
