"""The face network of dlib, a judge of identity from outside of the project."""

import hashlib
import importlib
import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.batch import to_channels, to_uint8
from xdomain.errors import UserError

WEIGHTS = "dlib_face_recognition_resnet_model_v1.dat"
CHIP = 150  # pixels of the network's input
EYES = (47.7, 100.3, 47.1)  # columns of both eyes and their row in the input, of dlib's mean face with a margin of 1/4
ALIGNED = (0.388, 0.601, 0.514)  # the same as shares of the width and height of CelebA's central square


class DlibEmbedder(nn.Module):
    """Maps faces to 128 features; those of one person are less than 0.6 apart (99.4 % right on pairs of LFW).

    King, "Dlib-ml: A Machine Learning Toolkit", 2009; the network of its package ``face-recognition-models``. Faces are
    cut out at a fixed place, that of the faces in CelebA's central square (``crop: centre178``), and not looked for: a
    face that cannot be found would count as lost for the wrong reason.

    Raises:
        UserError: if a package is missing.
    """

    name = "dlib"
    dim = 128

    def __init__(self) -> None:
        super().__init__()
        if importlib.util.find_spec("dlib") is None or (weights := _weights()) is None:
            raise UserError(
                "the judge dlib needs packages that are not installed: run `make judges`, or `pip install dlib-bin "
                "face-recognition-models`."
            )
        dlib: Any = importlib.import_module("dlib")
        self.network = dlib.face_recognition_model_v1(str(weights))
        self._known: dict[bytes, list[float]] = {}  # a face costs 50 ms, and is often asked for again

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features [N, 128] of aligned faces [N, C, H, W] in [-1, 1]."""
        chips = to_uint8(cut_out(to_channels(images.float(), 3))).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        keys = [hashlib.sha256(chip).digest() for chip in chips]
        new = {key: chip for key, chip in zip(keys, chips, strict=True) if key not in self._known}
        if new:
            found = self.network.compute_face_descriptor([*new.values()])
            self._known |= {key: list(feature) for key, feature in zip(new, found, strict=True)}
        features = [self._known[key] for key in keys]
        return torch.tensor(features, dtype=torch.float32, device=images.device).view(-1, self.dim)


def cut_out(images: Tensor) -> Tensor:
    """The faces of aligned images [N, C, H, W] as [N, C, 150, 150], with the eyes where dlib's network expects them."""
    left, right, row = EYES
    across, other, down = ALIGNED
    scale = (right - left) / (other - across)  # pixels of the input along a whole side
    side = CHIP / scale
    x, y = across - left / scale, down - row / scale
    theta = images.new_tensor([[side, 0, 2 * x + side - 1], [0, side, 2 * y + side - 1]])
    grid = F.affine_grid(theta.expand(len(images), -1, -1), [len(images), images.shape[1], CHIP, CHIP], False)
    return F.grid_sample(images, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(-1, 1)


def _weights() -> Path | None:
    """The file of the weights, without importing their package, which needs an old setuptools."""
    found = importlib.util.find_spec("face_recognition_models")
    folders = [] if found is None else [*(found.submodule_search_locations or [])]
    paths = [Path(folder) / "models" / WEIGHTS for folder in folders]
    return next((path for path in paths if path.is_file()), None)
