"""Networks: nn.Module only."""

from xdomain.networks.codes import CodeDiscriminator, ContentDecoder, ContentEncoder, FaderDiscriminator
from xdomain.networks.dcgan import ConvClassifier, ConvDiscriminator, ConvEncoder, UpConvDecoder
from xdomain.networks.faces import AttributeNet, FaceEmbedder
from xdomain.networks.half_resolution import HalfClassifier, HalfDecoder, HalfDiscriminator
from xdomain.networks.image_pool import ImagePool
from xdomain.networks.patch_discriminator import MultiScaleDiscriminator, PairDiscriminator, PatchDiscriminator
from xdomain.networks.patch_sampler import PatchSampler
from xdomain.networks.resnet_generator import ResnetGenerator
from xdomain.networks.segmentation import SegmentationNet
from xdomain.networks.statistics import ContentRegions, LinearDiscriminant, LinearErasure
from xdomain.networks.unet import UNetGenerator

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
    "ImagePool",
    "LinearDiscriminant",
    "LinearErasure",
    "MultiScaleDiscriminator",
    "PairDiscriminator",
    "PatchDiscriminator",
    "PatchSampler",
    "ResnetGenerator",
    "SegmentationNet",
    "UNetGenerator",
    "UpConvDecoder",
]
