"""Face embeddings by networks from ONNX files."""

import importlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.batch import to_channels
from xdomain.errors import UserError


class OnnxEmbedder(nn.Module):
    """An ONNX network that maps images [N, C, H, W] to features [N, d], run by onnxruntime.

    The features are scaled to unit length. The network is frozen, without gradients.

    Args:
        path: the ``.onnx`` file.
        size: side in pixels to which images are resized; the network's own if it is fixed.
        mean: subtracted from images in [0, 1], one value or one per channel.
        std: divisor after that. The defaults give [-1, 1], as ArcFace needs.

    Raises:
        UserError: if onnxruntime is missing, or if the file is missing, damaged or needs other input.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, path: str | Path, size: int | None = None, mean: Sequence[float] = (0.5,), std: Sequence[float] = (0.5,)
    ) -> None:
        super().__init__()
        try:
            runtime = importlib.import_module("onnxruntime")
        except ImportError as error:
            raise UserError(f"{path} needs a package that is not installed: run `pip install onnxruntime`.") from error
        if not Path(path).is_file():
            raise UserError(f"the network {path} does not exist.")
        present = runtime.get_available_providers()
        wanted = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in present]
        try:
            self.session = runtime.InferenceSession(str(path), providers=wanted)
        except Exception as error:  # onnxruntime's own classes, without a common base
            raise UserError(f"{path} cannot be read as an ONNX network ({type(error).__name__}).") from error
        first = self.session.get_inputs()[0]
        if len(first.shape) != 4 or first.shape[1] not in (1, 3):
            raise UserError(f"{path} takes {first.shape}: export it for images as [N, channels, height, width].")
        batch, self.channels, height, width = first.shape  # a free size is a name or None
        if isinstance(batch, int) and batch != 1:
            raise UserError(f"{path} takes {batch} images at a time only: export it with a free batch size.")
        self.single = batch == 1
        self.input = first.name
        if size is None and not (isinstance(height, int) and height == width):
            raise UserError(f"{path} takes images of any size: say which, as in onnx:{path}:112.")
        self.size = int(size or height)
        if any(isinstance(side, int) and side != self.size for side in (height, width)):
            raise UserError(f"{path} takes images of {width} x {height} only, not of {self.size}: leave the size out.")
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Features [N, d] of length 1 of images [N, C, H, W] in [-1, 1], grey or RGB; others are clamped."""
        images = to_channels((images.float().clamp(-1, 1) + 1) / 2, self.channels)
        if images.shape[2:] != (self.size, self.size):
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        images = (images - self.mean) / self.std
        parts = torch.split(images, 1) if self.single else (images,)
        features = [torch.from_numpy(self.session.run(None, {self.input: p.cpu().numpy()})[0]) for p in parts]
        return F.normalize(torch.cat(features).flatten(1).float()).to(images.device)
