"""Networks: nn.Module only."""

from xdomain.networks.adaptation import DomainDiscriminator, LeNet, MNISTNet, SVHNNet
from xdomain.networks.adaptive_augment import AdaptiveAugment
from xdomain.networks.codes import CodeDecoder, CodeDiscriminator, CodeEncoder, FaderDiscriminator
from xdomain.networks.dcgan import ConvClassifier, ConvDiscriminator, ConvEncoder, UpConvDecoder
from xdomain.networks.drit import ContentDiscriminator
from xdomain.networks.editors import (
    AttGANDiscriminator,
    AttGANGenerator,
    SelectiveTransferUnit,
    StarGANDiscriminator,
    StarGANGenerator,
    STGANGenerator,
)
from xdomain.networks.faces import AttributeNet, FaceEmbedder
from xdomain.networks.half_resolution import (
    HalfResolutionClassifier,
    HalfResolutionDecoder,
    HalfResolutionDiscriminator,
)
from xdomain.networks.icgan import IcGANDiscriminator, IcGANEncoder, IcGANGenerator
from xdomain.networks.image_classifiers import DenseNet, PyramidNet, ResNetClassifier, WideResNet
from xdomain.networks.image_pool import ImagePool
from xdomain.networks.ost import DigitAutoencoders, DigitDiscriminator, DrawingAutoencoders
from xdomain.networks.parameters import ParameterClassifier, ParameterDecoder, ParameterEncoder
from xdomain.networks.patch_discriminator import MultiScaleDiscriminator, PairDiscriminator, PatchDiscriminator
from xdomain.networks.patch_sampler import PatchSampler
from xdomain.networks.permuted_adain import PermutedAdaIN, insert_padain
from xdomain.networks.resnet_generator import ResnetGenerator
from xdomain.networks.segmentation import (
    DilatedHeads,
    FineGrainedDiscriminator,
    ResNetFeatures,
    SegmentationNet,
    SmallFeatures,
)
from xdomain.networks.statistics import ContentRegions, LinearDiscriminant, LinearErasure
from xdomain.networks.two_step import ConditionalGenerator, LatentEncoder, TwoHeadDiscriminator
from xdomain.networks.unet import UNetGenerator

__all__ = [
    "AdaptiveAugment",
    "AttGANDiscriminator",
    "AttGANGenerator",
    "AttributeNet",
    "CodeDecoder",
    "CodeDiscriminator",
    "CodeEncoder",
    "ConditionalGenerator",
    "ContentDiscriminator",
    "ContentRegions",
    "ConvClassifier",
    "ConvDiscriminator",
    "ConvEncoder",
    "DenseNet",
    "DigitAutoencoders",
    "DigitDiscriminator",
    "DilatedHeads",
    "DomainDiscriminator",
    "DrawingAutoencoders",
    "FaceEmbedder",
    "FaderDiscriminator",
    "FineGrainedDiscriminator",
    "HalfResolutionClassifier",
    "HalfResolutionDecoder",
    "HalfResolutionDiscriminator",
    "IcGANDiscriminator",
    "IcGANEncoder",
    "IcGANGenerator",
    "ImagePool",
    "LatentEncoder",
    "LeNet",
    "LinearDiscriminant",
    "LinearErasure",
    "MNISTNet",
    "MultiScaleDiscriminator",
    "PairDiscriminator",
    "ParameterClassifier",
    "ParameterDecoder",
    "ParameterEncoder",
    "PatchDiscriminator",
    "PatchSampler",
    "PermutedAdaIN",
    "PyramidNet",
    "ResNetClassifier",
    "ResNetFeatures",
    "ResnetGenerator",
    "STGANGenerator",
    "SVHNNet",
    "SegmentationNet",
    "SelectiveTransferUnit",
    "SmallFeatures",
    "StarGANDiscriminator",
    "StarGANGenerator",
    "TwoHeadDiscriminator",
    "UNetGenerator",
    "UpConvDecoder",
    "WideResNet",
    "insert_padain",
]
