"""The Inception of the published FID, KID and IS."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.batch import to_uint8
from xdomain.errors import UserError
from xdomain.features.base import Extractor, check_layers

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"


class Inception(Extractor):
    """The Inception of the published FID, KID and IS: torch-fidelity's, by way of torchmetrics.

    Vectors are the 2048 means after the last block, of the image resized to 299x299. Maps are computed at the image's
    own size, as the single-image FID needs them: ``64`` is the input of the first max-pooling (the default of SinGAN's
    code), ``192`` that of the second (SinGAN's paper).

    Args:
        network: torchmetrics' ``NoTrainInceptionV3`` for the feature ``"2048"``.
    """

    name = "inception"
    dim = 2048
    layers = ("64", "192")
    joint = "-"

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.freeze()

    def vectors(self, images: Tensor) -> Tensor:
        vectors: Tensor = self.network(to_uint8(images))
        return vectors

    def scores(self, images: Tensor) -> Tensor:
        head = self.network.fc
        assert isinstance(head, nn.Linear)
        return self.vectors(images) @ head.weight.T  # without the bias, as in the original Inception Score

    def activations(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        check_layers(self.name, layers, self.layers)
        found = {}
        x = images
        for module in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"):
            x = self.network.get_submodule(module)(x)
        found["64"] = x
        if "192" in layers:
            x = F.max_pool2d(x, 3, 2)
            for module in ("Conv2d_3b_1x1", "Conv2d_4a_3x3"):
                x = self.network.get_submodule(module)(x)
            found["192"] = x
        return [found[layer] for layer in layers]


def load_inception() -> Inception:
    """Load the network with its published weights.

    Raises:
        UserError: if torch-fidelity or the file of weights is missing.
    """
    path = Path(torch.hub.get_dir(), "checkpoints", INCEPTION_FILE)
    try:
        import torch_fidelity  # type: ignore[import-not-found]  # noqa: F401
        from torchmetrics.image.fid import NoTrainInceptionV3
    except ImportError as error:
        raise UserError("the feature network inception needs a package: pip install torch-fidelity.") from error
    if not path.is_file():
        raise UserError(f"the weights of inception are not at {path}: put {INCEPTION_URL} there.")
    with torch.random.fork_rng():
        return Inception(NoTrainInceptionV3("inception-v3-compat", ["2048"], str(path)))
