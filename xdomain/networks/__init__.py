"""Networks: nn.Module only."""

from xdomain.networks.dcgan import ConvClassifier, ConvDiscriminator, ConvEncoder, UpConvDecoder
from xdomain.networks.faces import AttributeNet, FaceEmbedder
from xdomain.networks.half import HalfClassifier, HalfDecoder, HalfDiscriminator

__all__ = [
    "AttributeNet",
    "ConvClassifier",
    "ConvDiscriminator",
    "ConvEncoder",
    "FaceEmbedder",
    "HalfClassifier",
    "HalfDecoder",
    "HalfDiscriminator",
    "UpConvDecoder",
]
