"""Networks: nn.Module only."""

from xdomain.networks.content import (
    CodeDiscriminator,
    ContentDecoder,
    ContentEncoder,
    ContentRegions,
    FaderDiscriminator,
    LinearDiscriminant,
    LinearErasure,
)
from xdomain.networks.dcgan import ConvClassifier, ConvDiscriminator, ConvEncoder, UpConvDecoder
from xdomain.networks.faces import AttributeNet, FaceEmbedder
from xdomain.networks.half import HalfClassifier, HalfDecoder, HalfDiscriminator

__all__ = [
    "AttributeNet",
    "CodeDiscriminator",
    "ContentDecoder",
    "ContentEncoder",
    "ContentRegions",
    "ConvClassifier",
    "ConvDiscriminator",
    "ConvEncoder",
    "FaceEmbedder",
    "FaderDiscriminator",
    "HalfClassifier",
    "HalfDecoder",
    "HalfDiscriminator",
    "LinearDiscriminant",
    "LinearErasure",
    "UpConvDecoder",
]
