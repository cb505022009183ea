"""LightningDataModules."""

from xdomain.data.augment import DigitShapes, FaceLooks, ResizeCropFlip, Warp
from xdomain.data.augmix import AugMix, EachImage
from xdomain.data.avatars import Avatars
from xdomain.data.base import BaseDataModule, DomainPair, ImageData, SingleDomain
from xdomain.data.celeba import CelebA
from xdomain.data.cifar import CIFAR10, CIFAR100, CorruptedCIFAR
from xdomain.data.digits import Handwritten, Street
from xdomain.data.facades import Facades, FacadeWorld
from xdomain.data.folders import LabelledFolders, UnpairedFolders
from xdomain.data.official import MNIST, SVHN, USPS
from xdomain.data.one_shot import ImageAndFolder, OneShot
from xdomain.data.people import AvatarClips, TwoVideos
from xdomain.data.pictures import CastDigits, EnginePictures, PolygonPhotos
from xdomain.data.seasons import SeasonWorld
from xdomain.data.single import ImagePair, SingleImage
from xdomain.data.tables import AttributeTable
from xdomain.data.video import ClipAndImage, SingleVideo

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "MNIST",
    "SVHN",
    "USPS",
    "AttributeTable",
    "AugMix",
    "AvatarClips",
    "Avatars",
    "BaseDataModule",
    "CastDigits",
    "CelebA",
    "ClipAndImage",
    "CorruptedCIFAR",
    "DigitShapes",
    "DomainPair",
    "EachImage",
    "EnginePictures",
    "FacadeWorld",
    "Facades",
    "FaceLooks",
    "Handwritten",
    "ImageAndFolder",
    "ImageData",
    "ImagePair",
    "LabelledFolders",
    "OneShot",
    "PolygonPhotos",
    "ResizeCropFlip",
    "SeasonWorld",
    "SingleDomain",
    "SingleImage",
    "SingleVideo",
    "Street",
    "TwoVideos",
    "UnpairedFolders",
    "Warp",
]
