"""Networks: nn.Module only."""

from xdomain.networks.dcgan import ConvClassifier, ConvDiscriminator, ConvEncoder, UpConvDecoder
from xdomain.networks.half import HalfClassifier, HalfDecoder, HalfDiscriminator

__all__ = [
    "ConvClassifier",
    "ConvDiscriminator",
    "ConvEncoder",
    "HalfClassifier",
    "HalfDecoder",
    "HalfDiscriminator",
    "UpConvDecoder",
]
