"""Methods: one file per paper."""

from xdomain.methods.adda import ADDA
from xdomain.methods.attgan import AttGAN
from xdomain.methods.attributes import AttributeClassifier
from xdomain.methods.base import Method
from xdomain.methods.classifier import Classifier
from xdomain.methods.consingan import ConSinGAN
from xdomain.methods.content import ContentMethod
from xdomain.methods.cut import CUT
from xdomain.methods.cyclegan import CycleGAN
from xdomain.methods.dann import DANN
from xdomain.methods.deep_image_analogy import DeepImageAnalogy
from xdomain.methods.didd import DIDD
from xdomain.methods.distance_gan import DistanceGAN
from xdomain.methods.domain_confusion import DomainConfusion
from xdomain.methods.drit import DRIT
from xdomain.methods.dtn import DTN
from xdomain.methods.fada import FADA
from xdomain.methods.fader import FaderNetwork
from xdomain.methods.gram import GramStyleTransfer
from xdomain.methods.guided import GuidedTransfer
from xdomain.methods.icgan import IcGAN
from xdomain.methods.identity import IdentityEmbedder
from xdomain.methods.image_classifier import ImageClassifier
from xdomain.methods.masked import MaskedTransfer
from xdomain.methods.munit import MUNIT
from xdomain.methods.ost import OST
from xdomain.methods.patch_vaegan import PatchVAEGAN
from xdomain.methods.pix2pix import Pix2Pix
from xdomain.methods.pyramid import PyramidMethod
from xdomain.methods.reader import ParameterReader
from xdomain.methods.readouts import Change, Erasure, Regions, Strength
from xdomain.methods.segmenter import Segmenter
from xdomain.methods.singan import SinGAN
from xdomain.methods.stargan import StarGAN
from xdomain.methods.stgan import STGAN
from xdomain.methods.structural_analogy import StructuralAnalogy
from xdomain.methods.style import StyleMethod
from xdomain.methods.tos import TOS
from xdomain.methods.translation import TranslationMethod
from xdomain.methods.two_step import TwoStep
from xdomain.methods.unit import UNIT
from xdomain.methods.video_baselines import ConSinGAN3D, SinGAN3D

__all__ = [
    "ADDA",
    "CUT",
    "DANN",
    "DIDD",
    "DRIT",
    "DTN",
    "FADA",
    "MUNIT",
    "OST",
    "STGAN",
    "TOS",
    "UNIT",
    "AttGAN",
    "AttributeClassifier",
    "Change",
    "Classifier",
    "ConSinGAN",
    "ConSinGAN3D",
    "ContentMethod",
    "CycleGAN",
    "DeepImageAnalogy",
    "DistanceGAN",
    "DomainConfusion",
    "Erasure",
    "FaderNetwork",
    "GramStyleTransfer",
    "GuidedTransfer",
    "IcGAN",
    "IdentityEmbedder",
    "ImageClassifier",
    "MaskedTransfer",
    "Method",
    "ParameterReader",
    "PatchVAEGAN",
    "Pix2Pix",
    "PyramidMethod",
    "Regions",
    "Segmenter",
    "SinGAN",
    "SinGAN3D",
    "StarGAN",
    "Strength",
    "StructuralAnalogy",
    "StyleMethod",
    "TranslationMethod",
    "TwoStep",
]
