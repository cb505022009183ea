"""Features of torchvision networks, with weights from a file."""

from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from xdomain.errors import UserError
from xdomain.features.base import HookedExtractor
from xdomain.paths import data_root

GRAMMAR = "torchvision:NET:PATH[:layer=NAME][:input=imagenet|caffe]"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (123.0, 117.0, 104.0)  # RGB, of 255


class TorchvisionExtractor(HookedExtractor):
    """A network of torchvision with weights from a file, applied to images at their own size.

    The feature vector is the spatial mean of the maps of one layer.

    Args:
        net: name of the network, as in ``torchvision.models``.
        weights: file with its state dict, in any precision; a relative path is also looked for in the data root.
        layer: dotted name of the layer for the feature vector; by default the output of ``features``.
        caffe: the network takes RGB in 0-255 minus (123, 117, 104), not ImageNet's mean and deviation in 0-1.

    Raises:
        UserError: for an unknown network or layer, or a file that is missing, unreadable or of another network.
    """

    def __init__(self, net: str, weights: str, layer: str = "features", caffe: bool = False) -> None:
        if net not in torchvision.models.list_models(module=torchvision.models):
            raise UserError(f"torchvision has no classifier {net!r}: see torchvision.models.list_models().")
        with torch.random.fork_rng():  # the initial weights are discarded and must not change the run's random state
            network = torchvision.models.get_model(net, weights=None)
        _load(network, weights, net)
        super().__init__(net.replace("_", "-"), network, self._caffe if caffe else self._imagenet)
        self.layer = layer
        self.freeze()
        try:
            self.dim = self.maps(torch.zeros(1, 3, 128, 128), layer).shape[1]
        except ValueError as error:
            raise UserError(f"{error}: give another one in {GRAMMAR}.") from error

    @staticmethod
    def _imagenet(images: Tensor) -> Tensor:
        mean, std = (images.new_tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        return ((images + 1) / 2 - mean) / std

    @staticmethod
    def _caffe(images: Tensor) -> Tensor:
        return (images + 1) * 127.5 - images.new_tensor(CAFFE_MEAN).view(1, 3, 1, 1)

    def vectors(self, images: Tensor) -> Tensor:
        return self.activations(images, [self.layer])[0].mean((2, 3))

    def scores(self, images: Tensor) -> Tensor:
        scores: Tensor = self.network(self.normalise(images))
        return scores


def _load(network: nn.Module, weights: str, net: str) -> None:
    path = next((p for p in (Path(weights).expanduser(), data_root() / weights) if p.is_file()), None)
    if path is None:
        raise UserError(f"there are no weights {weights}, nor below {data_root()}: give their path in {GRAMMAR}.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path} cannot be read as a state dict ({type(error).__name__}).") from error
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise UserError(f"{path} does not hold the state dict of torchvision's {net}.") from error
