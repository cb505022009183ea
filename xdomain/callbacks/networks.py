"""The networks that a method calls."""

from collections.abc import Iterator

from torch import nn

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
