"""Building a feature network from a string.

There is no fallback from one network to another, and every metric has the network's name in its own
(``kid@random-conv``).
"""

import torch

from xdomain.features.base import Extractor
from xdomain.features.classifier import ClassifierExtractor
from xdomain.features.helpers import Helper
from xdomain.features.inception import load_inception
from xdomain.features.pretrained import build_pretrained, is_pretrained
from xdomain.features.random_conv import RandomConv


def build_extractor(spec: str) -> Extractor:
    """Build the feature network that a string names.

    ====================================================== ==========================================================
    ``inception``                                          that of published FID; needs torch-fidelity and its weights
    ``random-conv``, ``random-conv3d``                     fixed random convolutions, for images and for videos
    ``torchvision:NET:PATH[:layer=NAME][:input=caffe]``    a network of torchvision, weights from a file; the layer of
                                                           the feature vector; the input is ImageNet's by default
    ``timm:NAME:PATH``                                     a model of timm, weights from a file; needs timm
    anything else                                          recipe or path of a classifier's checkpoint; its weights
                                                           are loaded by :meth:`Extractor.fetch`
    ====================================================== ==========================================================

    Raises:
        UserError: if the string cannot be parsed, or what it names does not exist.

    Example:
        >>> build_extractor("random-conv").layers
        ('1', '2', '3', '4')
    """
    if spec == "inception":
        return load_inception()
    if spec in ("random-conv", "random-conv3d"):
        return RandomConv(dims=3 if spec.endswith("3d") else 2)
    if is_pretrained(spec):
        return build_pretrained(spec)
    with torch.random.fork_rng():
        helper = Helper(spec)
    return ClassifierExtractor(helper, "own-classifier" if "/" in spec else spec.replace("_", "-"))
