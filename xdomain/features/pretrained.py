"""Networks of other libraries, with weights from a file: ``torchvision:NET:PATH`` and ``timm:NAME:PATH``."""

from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from xdomain.errors import UserError
from xdomain.features.base import Extractor
from xdomain.features.timm_models import TimmExtractor
from xdomain.features.torchvision_models import TorchvisionExtractor
from xdomain.paths import data_root

Library = Literal["torchvision", "timm"]
EXTRACTORS: dict[str, type[TorchvisionExtractor | TimmExtractor]] = {
    "torchvision": TorchvisionExtractor,
    "timm": TimmExtractor,
}
GRAMMAR = {"torchvision": "torchvision:NET:PATH[:layer=NAME][:input=imagenet|caffe]", "timm": "timm:NAME:PATH"}


class Pretrained(nn.Module):
    """A feature network of another library as the network of a helper, such as DTN's f: features without classes.

    Args:
        library: where the network comes from.
        net: its name there.
        options: see its extractor in :data:`EXTRACTORS`.

    Raises:
        UserError: as there.
    """

    in_channels = 3
    classes = 0

    def __init__(self, library: Library, net: str, **options: Any) -> None:
        super().__init__()
        self.extractor = EXTRACTORS[library](net, **options)
        self.dim = self.extractor.dim

    def features(self, images: Tensor) -> Tensor:
        """Features [N, dim] of images [N, C, H, W] in [-1, 1]; gradients pass through to the images."""
        return self.extractor.embed(images)


def is_pretrained(spec: str) -> bool:
    """Whether a string names a network of another library."""
    return spec.partition(":")[0] in EXTRACTORS


def parse(spec: str) -> tuple[dict[str, Any], str]:
    """Arguments of :class:`Pretrained`, and the path of the weights.

    Raises:
        UserError: if the string cannot be parsed.
    """
    library, net, path = [*spec.split(":", 2), "", ""][:3]
    path, *parts = path.split(":") if library == "torchvision" else [path]
    options = dict(part.split("=", 1) for part in parts if "=" in part)
    known = options.keys() <= {"layer", "input"} and len(options) == len(parts)
    if not (
        known and net and path and all(options.values()) and options.get("input", "caffe") in ("imagenet", "caffe")
    ):
        raise UserError(f"the feature network {spec!r} does not read as {GRAMMAR[library]}.")
    more: dict[str, Any] = {"layer": options["layer"]} if "layer" in options else {}
    if "input" in options:
        more["caffe"] = options["input"] == "caffe"
    return {"library": library, "net": net, **more}, path


def build_pretrained(spec: str) -> Extractor:
    """The feature network that a string names, with its weights.

    Raises:
        UserError: if the string cannot be parsed, the network is unknown, or the weights are missing or of another one.
    """
    options, path = parse(spec)
    network = Pretrained(**options)
    try:
        network.load_state_dict(pretrained_weights(spec))
    except RuntimeError as error:
        raise UserError(f"{path} does not hold the state dict of {options['library']}'s {options['net']}.") from error
    return network.extractor


def pretrained_weights(spec: str, root: Path | None = None) -> dict[str, Tensor]:
    """State dict of the :class:`Pretrained` that a string names.

    Args:
        spec: the string.
        root: data root, below which a relative path is also looked for.

    Raises:
        UserError: if the file is missing, or holds no state dict.
    """
    options, weights = parse(spec)
    folder = data_root(str(root) if root else None)
    path = next((p for p in (Path(weights).expanduser(), folder / weights) if p.is_file()), None)
    if path is None:
        raise UserError(
            f"there are no weights {weights}, nor below {folder}: give their path in {GRAMMAR[options['library']]}."
        )
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        return {f"extractor.network.{name}": value.detach() for name, value in state.items()}
    except Exception as error:
        raise UserError(f"{path} cannot be read as a state dict ({type(error).__name__}).") from error
