"""Methods: one file per paper."""

from xdomain.methods.attributes import AttributeClassifier
from xdomain.methods.base import Method
from xdomain.methods.classifier import Classifier
from xdomain.methods.dtn import DTN
from xdomain.methods.identity import IdentityEmbedder

__all__ = ["DTN", "AttributeClassifier", "Classifier", "IdentityEmbedder", "Method"]
