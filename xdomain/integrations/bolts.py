"""The pix2pix networks of lightning-bolts 0.7.0, which was written for Lightning 1."""

import importlib
import importlib.util
import sys
import warnings
from types import ModuleType

from lightning_utilities.core import apply_func
from torch import Tensor, nn

from xdomain.errors import UserError


def import_bolts(module: str = "pl_bolts") -> ModuleType:
    """Import lightning-bolts, or one of its modules, under Lightning 2.

    The package imports one module that Lightning 2 has moved to ``lightning_utilities``; its old name is put back
    beside it. Nothing of the installed package is changed. Afterwards ``import pl_bolts`` works as well.

    Args:
        module: name of the module, with its package.

    Raises:
        UserError: if lightning-bolts is not installed.
    """
    if importlib.util.find_spec("pl_bolts") is None:
        way = "run `make bolts`, or `pip install --no-deps lightning-bolts==0.7.0`"
        raise UserError(f"lightning-bolts is not installed: {way}.")
    sys.modules.setdefault("pytorch_lightning.utilities.apply_func", apply_func)
    with warnings.catch_warnings(record=True):  # that all of it is under review, and about names of old numpy
        return importlib.import_module(module)


def _build(name: str, *channels: int) -> nn.Module:
    """A network of bolts' pix2pix with its weights drawn as its training module draws them."""
    package = "pl_bolts.models.gans.pix2pix"
    components, training = (import_bolts(f"{package}.{module}") for module in ("components", "pix2pix_module"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one for every layer: it is under review
        network: nn.Module = getattr(components, name)(*channels)
        return network.apply(training._weights_init)


class BoltsGenerator(nn.Module):
    """The U-Net of lightning-bolts' pix2pix, for images whose sides are multiples of 256 pixels.

    It differs from the paper's, see docs/bolts.md. With RGB it has 54,416,387 parameters.

    Args:
        in_channels: channels of the images.
        out_channels: channels of the translations.

    Attributes:
        stride: 256, it halves eight times.

    Raises:
        UserError: if lightning-bolts is not installed.
    """

    stride = 256

    def __init__(self, in_channels: int = 3, out_channels: int = 3) -> None:
        super().__init__()
        self.network = _build("Generator", in_channels, out_channels)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, in_channels, H, W] to [N, out_channels, H, W] in [-1, 1]."""
        result: Tensor = self.network(images)
        return result


class BoltsPatchGAN(nn.Module):
    """The discriminator of lightning-bolts' pix2pix: pairs to a map [N, 1, H / 16, W / 16] of scores.

    It differs from the paper's, see docs/bolts.md. For two RGB images it has 2,761,921 parameters.

    Args:
        in_channels: channels of condition and image together.

    Raises:
        UserError: if lightning-bolts is not installed.
    """

    def __init__(self, in_channels: int = 6) -> None:
        super().__init__()
        self.network = _build("PatchGAN", in_channels)

    def forward(self, pairs: Tensor) -> Tensor:
        """Condition and image, joined, [N, in_channels, H, W]."""
        scores: Tensor = self.network(pairs, pairs[:, :0])  # it joins two tensors, and these are joined already
        return scores
