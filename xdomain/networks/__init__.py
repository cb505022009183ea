"""Networks: nn.Module only."""

from xdomain.networks.codes import CodeDecoder, CodeDiscriminator, CodeEncoder, FaderDiscriminator
from xdomain.networks.dcgan import ConvClassifier, ConvDiscriminator, ConvEncoder, UpConvDecoder
from xdomain.networks.faces import AttributeNet, FaceEmbedder
from xdomain.networks.half_resolution import (
    HalfResolutionClassifier,
    HalfResolutionDecoder,
    HalfResolutionDiscriminator,
)
from xdomain.networks.statistics import ContentRegions, LinearDiscriminant, LinearErasure

__all__ = [
    "AttributeNet",
    "CodeDecoder",
    "CodeDiscriminator",
    "CodeEncoder",
    "ContentRegions",
    "ConvClassifier",
    "ConvDiscriminator",
    "ConvEncoder",
    "FaceEmbedder",
    "FaderDiscriminator",
    "HalfResolutionClassifier",
    "HalfResolutionDecoder",
    "HalfResolutionDiscriminator",
    "LinearDiscriminant",
    "LinearErasure",
    "UpConvDecoder",
]
