"""LightningDataModules."""

from xdomain.data.augment import DigitShapes, Warp
from xdomain.data.base import BaseDataModule, DomainPair, ImageData, SingleDomain
from xdomain.data.digits import Handwritten, Street
from xdomain.data.official import MNIST, SVHN, USPS

__all__ = [
    "MNIST",
    "SVHN",
    "USPS",
    "BaseDataModule",
    "DigitShapes",
    "DomainPair",
    "Handwritten",
    "ImageData",
    "SingleDomain",
    "Street",
    "Warp",
]
