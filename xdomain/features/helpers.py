"""Frozen helper networks: trained by their own recipes at first use and kept in the cache folder.

A helper is given by its recipe (``street_classifier``), a recipe with overlays (``street_classifier+without_3``) or the
user's own checkpoint. Recipes and overlays can also be paths that end in ``.yaml``. Where features are enough, it may
be a network of another library: see :mod:`xdomain.features.pretrained`.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout
from pytorch_lightning.strategies import Strategy
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain import __version__
from xdomain.batch import to_channels
from xdomain.classes import TRUSTED, find_class
from xdomain.discover import PACKAGE, find_config
from xdomain.errors import UserError
from xdomain.features.fingerprint import fingerprint
from xdomain.features.pretrained import Pretrained, is_pretrained, parse, pretrained_weights
from xdomain.paths import cache_dir
from xdomain.running.checkpoints import read_checkpoint
from xdomain.running.folder import resolve_checkpoint
from xdomain.running.precision import emulates_bf16
from xdomain.running.signals import PARENT
from xdomain.running.weights import full_precision, halved, is_whole, keep_weights

Spec = dict[str, Any]
SHIPPED = PACKAGE / "weights" / "helpers"
"""Helpers of embedded data that come with the package, in half precision."""
FRESH = "XDOMAIN_FRESH"
"""Environment variable that, unless empty, has all helpers trained here instead."""
RANK_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_", "NODE_RANK", "GROUP_", "ROLE_", "SLURM_", "TORCHELASTIC_", "PL_")


class Helper(nn.Module):
    """A frozen classifier, or a feature network of another library, which has 0 classes.

    It always stays in evaluation mode without gradients of its weights. It converts images to the number of channels
    and, if its network has a fixed size, to the size that it was trained on. Its weights are loaded by :meth:`fetch` or
    from the owner's checkpoint, whichever comes first.

    Args:
        source: name of a recipe, path of a classifier's checkpoint or run folder, ``torchvision:NET:PATH`` or
            ``timm:NAME:PATH``, or the bare network as ``{"class_path": ..., "init_args": ...}`` when the weights come
            from the owner's checkpoint.
    """

    ready: Tensor

    def __init__(self, source: str | Spec) -> None:
        super().__init__()
        self.source = source
        self.spec = network_spec(source)
        # The user's own checkpoint may name what the recipe has imported, but imports nothing itself.
        foreign = isinstance(source, str) and _is_checkpoint(source)
        self.network = build_network(self.spec, (*TRUSTED, *sys.modules) if foreign else None)
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
        """Load the weights if necessary; rank 0 trains the recipe if it must, all ranks get the same weights.

        Args:
            strategy: the trainer's strategy, to broadcast from rank 0.
            root: data root of the run, for training the recipe.
        """
        if bool(self.ready):
            return
        state: dict[str, Tensor] | str = {}
        if strategy.is_global_zero:
            try:
                state = load_weights(self.source, root, _shows_progress(strategy))
            except UserError as error:  # the other ranks must be told, or they wait forever
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
        """Images [N, C, H, W] with the channels and the size of the network's input."""
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


def build_network(spec: Spec, allowed: Sequence[str] | None = None) -> nn.Module:
    """A network from ``{"class_path": name or dotted path, "init_args": {...}}``.

    Args:
        spec: class and arguments.
        allowed: packages that the class may come from, or None for any.

    Raises:
        UserError: if the path does not name a network (it is then not called), or the arguments do not fit it.
    """
    path = str(spec.get("class_path"))
    network = find_class(Helper, "network", path, [nn.Module], allowed)
    try:
        return network(**spec.get("init_args") or {})  # type: ignore[no-any-return]
    except (TypeError, ValueError) as error:
        raise UserError(f"the network {path} refuses its arguments: {error}") from error


def _is_checkpoint(source: str) -> bool:
    if source.endswith((".yaml", ".yml")) or is_pretrained(source):
        return False
    return Path(source).exists() or source.endswith(".ckpt")


def network_spec(source: str | Spec) -> Spec:
    """The architecture of a helper."""
    if isinstance(source, dict):
        return source
    if is_pretrained(source):
        return {"class_path": f"{Pretrained.__module__}.{Pretrained.__qualname__}", "init_args": parse(source)[0]}
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
    """Names of an attribute classifier's logits, in order.

    Args:
        source: recipe, with overlays after ``+``, or checkpoint; see :class:`Helper`.

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
    return tuple(targets[-1])  # later overlays replace them


def helper_data(source: str) -> str | None:
    """Class name of the data that a helper is trained on, or None for a checkpoint, which is already trained."""
    if _is_checkpoint(source):
        return None
    named = [_setting(config, "data", "class_path") for config in _configs(source)]
    return next((str(name).rsplit(".", 1)[-1] for name in reversed(named) if name), None)


def _argument(config: Path, name: str) -> Any:
    """An argument of the model in a config, or None if it is not given."""
    return _setting(config, "model", "init_args", name)


def _setting(config: Path, *keys: str) -> Any:
    """A setting in a config, or None if it is not given."""
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
    checkpoint = read_checkpoint(resolve_checkpoint(source, prefer="last"))
    if not isinstance(checkpoint.get("hyper_parameters"), dict):
        raise UserError(f"{source} is not a classifier's checkpoint: train one with a *_classifier recipe.")
    return checkpoint


def _shows_progress(strategy: Strategy) -> bool:
    """Whether the training that uses the helper shows its own progress."""
    module = getattr(strategy, "lightning_module", None)
    return module is None or module._trainer is None or module._trainer.progress_bar_callback is not None


def load_weights(source: str | Spec, root: Path | None = None, progress: bool = True) -> dict[str, Tensor]:
    """Weights of a helper's network, trained first if necessary; see :func:`train_once`."""
    if isinstance(source, dict):
        raise UserError("a helper given as a bare network has no weights of its own: load its owner's checkpoint.")
    if is_pretrained(source):
        return pretrained_weights(source, root)
    if _is_checkpoint(source):
        return _network_state(_read_checkpoint(source))
    return {name: full_precision(value) for name, value in load_file(train_once(source, root, progress)).items()}


def _network_state(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    state = checkpoint["state_dict"]
    return {k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")}


def train_once(name: str, root: Path | None = None, progress: bool = True) -> Path:
    """The weights file of a recipe; trains it if it neither comes with the package nor is in the cache.

    One process trains while others wait. The file name contains a hash of everything that the weights depend on: the
    recipe, the data, the engine that draws them and the version. If any of these has changed, the recipe is trained
    again.

    Args:
        name: recipe, with overlays after ``+``.
        root: data root for the training; the recipe's own by default.
        progress: show the progress of the training.

    Raises:
        UserError: if the training fails, or if the cache folder cannot be written.
    """
    configs, folder = _configs(name), cache_dir() / "zoo"
    stem = "+".join(path.stem for path in configs)
    file = f"{stem}-{fingerprint(configs, root)}.safetensors"
    if not os.environ.get(FRESH) and is_whole(SHIPPED / file):
        return SHIPPED / file
    if is_whole(weights := folder / file):
        return weights  # no lock: the folder may be read-only
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{stem}.lock"):
            if weights.exists() and not is_whole(weights):
                print(f"the helper network {name} in {weights} is damaged and is trained again", file=sys.stderr)
            if not is_whole(weights):
                weights = _train(name, configs, root, progress, folder / f"{stem}.training")
    except OSError as error:
        raise UserError(
            f"the helper network {name} cannot be kept in {folder} ({error.strerror}): make room there, or let the "
            "environment variable XDOMAIN_CACHE name another folder."
        ) from error
    return weights


def ship(name: str, folder: Path, commit: str | None) -> Path:
    """Write the weights of a recipe, trained here at this or an earlier time, in half precision.

    Args:
        name: recipe, with overlays after ``+``.
        folder: where; files of other states of the recipe and its data are removed there.
        commit: of the code, for the card.

    Raises:
        UserError: if it is no recipe of a helper, or if they cannot be written; see also :func:`train_once`.
    """
    network_spec(name)
    source = train_once(name)
    facts = json.loads(source.with_suffix(".json").read_text())
    file = folder / source.name
    for old in folder.glob(f"{name}-{'[0-9a-f]' * 12}.*"):
        old.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    keep_weights(file, {key: halved(value) for key, value in load_file(source).items()}, **facts, commit=commit)
    return file


def _train(name: str, configs: list[Path], root: Path | None, progress: bool, scratch: Path) -> Path:
    """Train the recipe in a separate process, which shares no random state, device state or rank with this one."""
    _tidy(scratch.parent)
    print(f"training the helper network {name} (once; kept in {scratch.parent})", file=sys.stderr)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(RANK_VARIABLES) and k != "LOCAL_RANK"}
    environment[PARENT] = str(os.getpid())
    if root is not None:
        environment["XDOMAIN_DATA"] = str(root)
    run = scratch / "run"
    command = [sys.executable, "-m", "xdomain", "fit", "--trainer.run_dir", str(run), "--trainer.devices", "1"]
    for config in configs:
        command += ["--config", str(config)]
    if not progress:
        command += ["--trainer.enable_progress_bar", "false"]
    if emulates_bf16() and any(str(_setting(config, "trainer", "precision")).startswith("bf16") for config in configs):
        command += ["--trainer.precision", "32-true"]
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        if (status := subprocess.run(command, env=environment, stdout=sys.stderr).returncode) != 0:
            raise UserError(f"training the helper network {name} failed with status {status}: see the lines above.")
        checkpoint = _read_checkpoint(str(run))
        wanted = [steps for config in configs if isinstance(steps := _setting(config, "trainer", "max_steps"), int)]
        if wanted and checkpoint["global_step"] < wanted[-1]:
            steps = f"after {checkpoint['global_step']:,} of {wanted[-1]:,} steps"
            raise UserError(f"training the helper network {name} ended {steps}: it is not kept.")
        # Named only now: the training may have downloaded its data first.
        weights = scratch.with_name(f"{scratch.stem}-{fingerprint(configs, root)}.safetensors")
        facts = {"recipe": name, "version": __version__, "steps": checkpoint["global_step"]}
        keep_weights(weights, _network_state(checkpoint), **facts)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return weights


def _tidy(folder: Path) -> None:
    """Remove folders left by killed trainings; a folder in use is locked."""
    for scratch in folder.glob("*.training"):
        with contextlib.suppress(Timeout), FileLock(scratch.with_suffix(".lock"), blocking=False):
            shutil.rmtree(scratch, ignore_errors=True)
