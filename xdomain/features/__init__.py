"""Feature networks and frozen helper networks."""

from xdomain.features.base import Extractor
from xdomain.features.build import build_extractor
from xdomain.features.helpers import Helper

__all__ = ["Extractor", "Helper", "build_extractor"]
