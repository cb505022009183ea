"""Features of torchvision networks."""

import torch
import torchvision
from torch import Tensor

from xdomain.errors import UserError
from xdomain.features.base import HookedExtractor

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (123.0, 117.0, 104.0)  # RGB, of 255


class TorchvisionExtractor(HookedExtractor):
    """A network of torchvision, applied to images at their own size.

    The feature vector is the spatial mean of the maps of one layer.

    Args:
        net: name of the network, as in ``torchvision.models``.
        layer: dotted name of the layer for the feature vector; by default the output of ``features``.
        caffe: the network takes RGB in 0-255 minus (123, 117, 104), not ImageNet's mean and deviation in 0-1.

    Raises:
        UserError: for an unknown network or layer.
    """

    def __init__(self, net: str, layer: str = "features", caffe: bool = False) -> None:
        if net not in torchvision.models.list_models(module=torchvision.models):
            raise UserError(f"torchvision has no classifier {net!r}: see torchvision.models.list_models().")
        with torch.random.fork_rng():  # the initial weights are discarded and must not change the run's random state
            network = torchvision.models.get_model(net, weights=None)
        super().__init__(net.replace("_", "-"), network, self._caffe if caffe else self._imagenet)
        self.layer = layer
        self.freeze()
        try:
            self.dim = self.maps(torch.zeros(1, 3, 128, 128), layer).shape[1]
        except ValueError as error:
            raise UserError(f"{error}: give another one as layer=NAME.") from error

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
