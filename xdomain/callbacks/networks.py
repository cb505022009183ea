"""The networks that a method calls."""

from collections.abc import Iterator

from torch import nn

from xdomain.errors import UserError
from xdomain.features.helpers import Helper
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
