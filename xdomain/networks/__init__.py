"""Networks: nn.Module only."""

from xdomain.networks.codes import CodeDiscriminator, ContentDecoder, ContentEncoder, FaderDiscriminator
from xdomain.networks.dcgan import ConvClassifier, ConvDiscriminator, ConvEncoder, UpConvDecoder
from xdomain.networks.faces import AttributeNet, FaceEmbedder
from xdomain.networks.half_resolution import HalfClassifier, HalfDecoder, HalfDiscriminator
from xdomain.networks.statistics import ContentRegions, LinearDiscriminant, LinearErasure

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
