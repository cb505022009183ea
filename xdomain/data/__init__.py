"""LightningDataModules."""

from xdomain.data.base import BaseDataModule, DomainPair, ImageData, SingleDomain
from xdomain.data.digits import Handwritten, Street
from xdomain.data.official import MNIST, SVHN, USPS

__all__ = [
    "MNIST",
    "SVHN",
    "USPS",
    "BaseDataModule",
    "DomainPair",
    "Handwritten",
    "ImageData",
    "SingleDomain",
    "Street",
]
