"""Methods: one file per paper."""

from xdomain.methods.attributes import AttributeClassifier
from xdomain.methods.base import Method
from xdomain.methods.classifier import Classifier
from xdomain.methods.content import ContentMethod
from xdomain.methods.didd import DIDD
from xdomain.methods.dtn import DTN
from xdomain.methods.fader import FaderNetwork
from xdomain.methods.guided import GuidedTransfer
from xdomain.methods.identity import IdentityEmbedder
from xdomain.methods.masked import MaskedTransfer
from xdomain.methods.pyramid import PyramidMethod
from xdomain.methods.singan import SinGAN

__all__ = [
    "DIDD",
    "DTN",
    "AttributeClassifier",
    "Classifier",
    "ContentMethod",
    "FaderNetwork",
    "GuidedTransfer",
    "IdentityEmbedder",
    "MaskedTransfer",
    "Method",
    "PyramidMethod",
    "SinGAN",
]
