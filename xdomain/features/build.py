"""Building a feature network from a string.

There is no fallback from one network to another, and every metric has the network's name in its own
(``kid@random-conv``).
"""

import torch

from xdomain.errors import UserError
from xdomain.features.base import Extractor
from xdomain.features.classifier import ClassifierExtractor
from xdomain.features.helpers import Helper
from xdomain.features.inception import load_inception
from xdomain.features.random_conv import RandomConv
from xdomain.features.torchvision_models import GRAMMAR, TorchvisionExtractor


def build_extractor(spec: str) -> Extractor:
    """Build the feature network that a string names.

    ====================================================== ==========================================================
    ``inception``                                          that of published FID; needs torch-fidelity and its weights
    ``random-conv``, ``random-conv3d``                     fixed random convolutions, for images and for videos
    ``torchvision:NET:PATH[:layer=NAME][:input=caffe]``    a network of torchvision, weights from a file; the layer of
                                                           the feature vector; the input is ImageNet's by default
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
    if spec.startswith("torchvision:"):
        return TorchvisionExtractor(*_parse(spec))
    with torch.random.fork_rng():
        helper = Helper(spec)
    return ClassifierExtractor(helper, "own-classifier" if "/" in spec else spec.replace("_", "-"))


def _parse(spec: str) -> tuple[str, str, str, bool]:
    _, *parts = spec.split(":")
    options = dict(part.split("=", 1) for part in parts[2:] if "=" in part)
    known = options.keys() <= {"layer", "input"} and len(options) == len(parts) - 2
    if not (known and all(parts) and options.get("input", "imagenet") in ("imagenet", "caffe")):
        raise UserError(f"the feature network {spec!r} does not read as {GRAMMAR}.")
    return parts[0], parts[1], options.get("layer", "features"), options.get("input") == "caffe"
