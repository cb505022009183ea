"""Methods: one file per paper."""

from xdomain.methods.base import Method
from xdomain.methods.classifier import Classifier
from xdomain.methods.dtn import DTN

__all__ = ["DTN", "Classifier", "Method"]
