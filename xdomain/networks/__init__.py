"""Networks: nn.Module only."""

from xdomain.networks.dcgan import ConvClassifier, ConvDiscriminator, ConvEncoder, UpConvDecoder

__all__ = ["ConvClassifier", "ConvDiscriminator", "ConvEncoder", "UpConvDecoder"]
