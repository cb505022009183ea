"""The networks of a method as it calls them."""

from collections.abc import Iterator

from torch import nn

from xdomain.features.helpers import Helper
from xdomain.networks.classifier import FeatureClassifier
from xdomain.networks.consingan import GrowingGenerator

IN_PARTS = (Helper, FeatureClassifier, GrowingGenerator)
"""They have methods beside ``forward``, through which their parts are called one by one."""


def called_networks(module: nn.Module) -> Iterator[nn.Module]:
    """The networks of a method that are called as a whole; of lists and other containers, what they hold.

    Args:
        module: the method.
    """
    for child in module.children():
        if isinstance(child, IN_PARTS) or type(child).forward is nn.Module.forward:  # without a forward of its own
            yield from called_networks(child)
        else:
            yield child
