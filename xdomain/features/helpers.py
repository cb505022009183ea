"""Frozen helper networks: recipes of their own, trained when first asked for, kept in the cache folder.

A helper is named by its recipe (``street_classifier``), by a recipe with overlays (``street_classifier+without_3``) or
by a checkpoint of the user's own. Recipes and overlays can also be paths that end in ``.yaml``.
"""

import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock
from pytorch_lightning.strategies import Strategy
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain import __version__
from xdomain.batch import to_channels
from xdomain.discover import find_config
from xdomain.errors import UserError
from xdomain.paths import cache_dir
from xdomain.running.folder import resolve_checkpoint

Spec = dict[str, Any]
RANK_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_", "NODE_RANK", "GROUP_", "ROLE_", "SLURM_", "TORCHELASTIC_", "PL_")


class Helper(nn.Module):
    """A classifier that never learns again.

    It stays in evaluation mode and without gradients of its own whatever its owner does, and it brings images to the
    number of channels and, if its network asks for one, to the size that it was trained on. Its weights arrive with
    :meth:`fetch` or with the owner's checkpoint, whichever is first.

    Args:
        source: name of a zoo recipe, path of a classifier's checkpoint or run folder, or the bare network as
            ``{"class_path": ..., "init_args": ...}`` when the weights come from the owner's checkpoint.
    """

    ready: Tensor

    def __init__(self, source: str | Spec) -> None:
        super().__init__()
        self.source = source
        self.spec = network_spec(source)
        self.network = build_network(self.spec)
        self.network.requires_grad_(False).eval()
        self.channels: int = self.network.in_channels  # type: ignore[assignment]
        self.classes: int = self.network.classes  # type: ignore[assignment]
        self.dim: int = self.network.dim  # type: ignore[assignment]
        self.image_size: int | None = (self.spec.get("init_args") or {}).get("image_size")
        self.register_buffer("ready", torch.tensor(False))

    def train(self, mode: bool = True) -> "Helper":
        """Stay in evaluation mode."""
        return super().train(False)

    def fetch(self, strategy: Strategy, root: Path | None = None) -> None:
        """Load the weights unless they are there; rank 0 trains the recipe if it has to, all ranks get the same.

        Args:
            strategy: the trainer's, for the way from rank 0 to the others.
            root: data root of the run, for the recipe's training.
        """
        if bool(self.ready):
            return
        state: dict[str, Tensor] | str = {}
        if strategy.is_global_zero:
            try:
                state = load_weights(self.source, root)
            except UserError as error:  # the others must hear of it, or they wait for ever
                state = str(error)
        state = strategy.broadcast(state)
        if isinstance(state, str):
            raise UserError(state)
        try:
            self.network.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(f"the weights of the helper {self.source} do not fit its network.") from error
        self.ready.fill_(True)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, classes] of images [N, C, H, W] in [-1, 1]."""
        logits: Tensor = self.network(self.prepared(images))
        return logits

    def prepared(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] with the channels and of the size that the network knows."""
        images, size = to_channels(images, self.channels), self.image_size
        if size is not None and images.shape[2:] != (size, size):
            images = F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)  # no bf16 on CPUs
        return images

    def classify(self, features: Tensor) -> Tensor:
        """Logits [N, classes] of features [N, dim]."""
        logits: Tensor = self.network.head(features)  # type: ignore[operator]
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Features [N, dim] of images [N, C, H, W] in [-1, 1]."""
        features: Tensor = self.network.features(self.prepared(images))  # type: ignore[operator]
        return features


def build_network(spec: Spec) -> nn.Module:
    """A network from ``{"class_path": name or dotted path, "init_args": {...}}``.

    Raises:
        UserError: if the path names no network, which is then not called, or the arguments do not fit it.
    """
    path = str(spec.get("class_path"))
    module, _, name = path.rpartition(".")
    try:
        network = getattr(importlib.import_module(module or "xdomain.networks"), name, None)
    except (ImportError, ValueError):
        network = None
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        raise UserError(f"{path} is no network: give the class_path of a torch.nn.Module.")
    try:
        return network(**spec.get("init_args") or {})
    except (TypeError, ValueError) as error:
        raise UserError(f"the network {path} refuses its arguments: {error}") from error


def _is_checkpoint(source: str) -> bool:
    if source.endswith((".yaml", ".yml")):
        return False
    return Path(source).exists() or source.endswith(".ckpt")


def network_spec(source: str | Spec) -> Spec:
    """The architecture of a helper."""
    if isinstance(source, dict):
        return source
    if _is_checkpoint(source):
        spec = _read_checkpoint(source)["hyper_parameters"].get("network")
        if not isinstance(spec, dict):
            raise UserError(f"{source} is not a classifier's checkpoint: train one with a *_classifier recipe.")
        return spec
    for config in _configs(source):
        if isinstance(spec := _argument(config, "network"), dict) and spec:
            return spec
    raise UserError(f"helper {source!r} is no classifier recipe: its model has no `network`.")


def helper_targets(source: str) -> tuple[str, ...]:
    """What the logits of a classifier of attributes stand for, in their order.

    Args:
        source: zoo recipe, with overlays after ``+``, or checkpoint; see :class:`Helper`.

    Raises:
        UserError: if it names no targets.
    """
    if _is_checkpoint(source):
        found = [_read_checkpoint(source)["hyper_parameters"].get("targets")]
    else:
        found = [_argument(config, "targets") for config in _configs(source)]
    targets = [value for value in found if isinstance(value, dict) and value]
    if not targets:
        raise UserError(f"{source} is no classifier of attributes: its model has no `targets`.")
    return tuple(targets[-1])  # a later overlay replaces them


def helper_data(source: str) -> str | None:
    """Name of the class of data that a helper learns from, or None for a checkpoint, which has learned."""
    if _is_checkpoint(source):
        return None
    named = [_setting(config, "data", "class_path") for config in _configs(source)]
    return next((str(name).rsplit(".", 1)[-1] for name in reversed(named) if name), None)


def _argument(config: Path, name: str) -> Any:
    """An argument of the model in a config, or None where it is not given."""
    return _setting(config, "model", "init_args", name)


def _setting(config: Path, *keys: str) -> Any:
    """What stands below some keys of a config, or None where nothing does."""
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        spot = getattr(error, "problem_mark", None)
        where = f"{config}, line {spot.line + 1}," if spot else str(config)
        raise UserError(f"{where} is not YAML.") from error
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _configs(name: str) -> list[Path]:
    return [find_config(part) for part in name.split("+")]


def _read_checkpoint(source: str) -> dict[str, Any]:
    path = resolve_checkpoint(source, prefer="last")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path} cannot be read as a checkpoint ({type(error).__name__}).") from error
    return checkpoint


def load_weights(source: str | Spec, root: Path | None = None) -> dict[str, Tensor]:
    """Weights of a helper's network, trained first if no one has."""
    if isinstance(source, dict):
        raise UserError("a helper given as a bare network has no weights of its own: load its owner's checkpoint.")
    if _is_checkpoint(source):
        return _network_state(_read_checkpoint(source))
    return load_file(train_once(source, root))


def _network_state(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    state = checkpoint["state_dict"]
    return {k.removeprefix("network."): v.contiguous() for k, v in state.items() if k.startswith("network.")}


def train_once(name: str, root: Path | None = None) -> Path:
    """The weights file of a zoo recipe; trains it if the cache has none.

    One process trains while others wait. The file's hash is checked at every use.

    Args:
        name: recipe, with overlays after ``+``.
        root: data root for the training; the recipe's own by default.

    Raises:
        UserError: if the training fails or the file has changed since it was written.
    """
    configs = _configs(name)
    key = hashlib.sha256("\0".join([__version__, *(path.read_text() for path in configs)]).encode()).hexdigest()[:12]
    folder = cache_dir() / "zoo"
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / f"{'+'.join(path.stem for path in configs)}-{key}.safetensors"
    card = weights.with_suffix(".json")
    with FileLock(weights.with_suffix(".lock")):
        if not card.exists():
            _train(name, configs, root, weights, card)
        if hashlib.sha256(weights.read_bytes()).hexdigest() != json.loads(card.read_text())["sha256"]:
            raise UserError(f"{weights} is damaged: delete it and {card.name}, and it is trained again.")
    return weights


def _train(name: str, configs: list[Path], root: Path | None, weights: Path, card: Path) -> None:
    """Run the recipe in a process of its own: it shares no random state, device state or rank with this one."""
    print(f"training the helper network {name} (once; kept in {weights})", file=sys.stderr)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(RANK_VARIABLES) and k != "LOCAL_RANK"}
    if root is not None:
        environment["XDOMAIN_DATA"] = str(root)
    with tempfile.TemporaryDirectory(dir=weights.parent) as scratch:
        run = Path(scratch) / "run"
        command = [sys.executable, "-m", "xdomain", "fit", "--trainer.run_dir", str(run), "--trainer.devices", "1"]
        for config in configs:
            command += ["--config", str(config)]
        if (status := subprocess.run(command, env=environment, stdout=sys.stderr).returncode) != 0:
            raise UserError(f"training the helper network {name} failed with status {status}: see the lines above.")
        checkpoint = _read_checkpoint(str(run))
        partial = Path(scratch) / weights.name
        save_file(_network_state(checkpoint), partial)
        facts = {
            "recipe": name,
            "sha256": hashlib.sha256(partial.read_bytes()).hexdigest(),
            "version": __version__,
            "steps": checkpoint["global_step"],
        }
        partial.replace(weights)
        partial_card = Path(scratch) / card.name
        partial_card.write_text(json.dumps(facts, indent=2))
        partial_card.replace(card)
