"""Features of the networks of timm."""

import importlib
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.errors import UserError
from xdomain.features.base import Extractor, check_layers


class TimmExtractor(Extractor):
    """A network of timm, without its classifier, applied to images at the size that it was made for.

    The feature vector is what timm's ``forward_head(forward_features(x), pre_logits=True)`` gives. Images are resized
    as a whole, without timm's cut of the centre. Layers are the modules of timm's ``feature_info``; the tokens of
    transformers are maps too.

    Args:
        net: name of the model, as in ``timm.list_models()``, with or without the tag of its weights after a dot. The
            input size, mean and standard deviation are those of this name.

    Raises:
        UserError: if timm is missing, or for an unknown model or one without feature vectors.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: str) -> None:
        super().__init__()
        try:
            timm: Any = importlib.import_module("timm")
        except ImportError as error:
            raise UserError(
                f"the feature network timm:{net} needs a package that is not installed: run `pip install timm`."
            ) from error
        if not timm.is_model(net):
            near = get_close_matches(net.split(".")[0], timm.list_models(), 1, 0)
            raise UserError(f"timm has no model {net!r}: the nearest is {near[0]}.")
        try:
            with (
                torch.random.fork_rng()
            ):  # the initial weights are discarded and must not change the run's random state
                network = timm.create_model(net, pretrained=False, num_classes=0)
        except RuntimeError as error:  # the tag
            tags = ", ".join(timm.list_pretrained(net.split(".")[0] + ".*")) or "none"
            raise UserError(
                f"timm cannot build {net!r} ({error}): models with weights of this name are {tags}."
            ) from error
        self.name, self.network = net.replace("_", "-"), network
        config = timm.data.resolve_model_data_config(network)
        self.size: tuple[int, int] = config["input_size"][1:]
        self.mode = "bilinear" if config["interpolation"] == "bilinear" else "bicubic"
        self.register_buffer("mean", torch.tensor(config["mean"]).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config["std"]).view(1, -1, 1, 1), persistent=False)
        heads = network.pretrained_cfg.get("classifier") or ()
        self.heads: tuple[str, ...] = (heads,) if isinstance(heads, str) else tuple(heads)
        network.register_load_state_dict_pre_hook(self._without_heads)
        has_maps = hasattr(network, "forward_intermediates")
        self.layers = tuple(str(info["module"]) for info in getattr(network, "feature_info", ())) if has_maps else ()
        self.freeze()
        found = self.features(torch.zeros(1, 3, *self.size))
        if found.ndim != 2:
            raise UserError(f"timm's {net} gives no feature vectors, but {tuple(found.shape)}: give another model.")
        self.dim = found.shape[1]

    def _without_heads(self, _module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        """Leave the classifier out of weights that are loaded."""
        heads = tuple(f"{prefix}{head}." for head in self.heads)
        for name in [name for name in state if name.startswith(heads)]:
            del state[name]

    def normalise(self, images: Tensor) -> Tensor:
        """Images [N, 3, h, w] as the network was trained on them, of prepared images [N, 3, H, W]."""
        if images.shape[2:] != self.size:
            images = F.interpolate(images, self.size, mode=self.mode, antialias=True).clamp(-1, 1)
        return ((images + 1) / 2 - self.mean) / self.std

    def vectors(self, images: Tensor) -> Tensor:
        vectors: Tensor = self.network(self.normalise(images))
        return vectors

    def activations(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        check_layers(self.name, layers, self.layers)
        indices = sorted({self.layers.index(layer) for layer in layers})
        found = self.network.forward_intermediates(
            self.normalise(images), indices=indices, intermediates_only=True, output_fmt="NCHW", stop_early=True
        )
        maps = dict(zip(indices, found, strict=True))
        return [maps[self.layers.index(layer)] for layer in layers]
