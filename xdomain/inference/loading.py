"""Methods out of checkpoints."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.cli import instantiate_module
from torch import Tensor

from xdomain.classes import FOR_TRAINING, TRUSTED, check_settings, find_class, wanted
from xdomain.errors import UserError, refusal
from xdomain.methods import Method
from xdomain.running.checkpoints import read_checkpoint
from xdomain.running.folder import resolve_checkpoint


def load(path: str | os.PathLike[str], allow: Sequence[str] = ()) -> Method:
    """A trained method from its checkpoint alone: no recipe, no data, no helper network is needed.

    A checkpoint names the classes that the method is built of. Only those below ``xdomain`` and ``torch`` are used, so
    that a file of somebody else's runs no code of its own. Optimisers are not built.

    Args:
        path: checkpoint file, or run folder (its ``best`` checkpoint is taken, else ``last``).
        allow: more packages or modules that the checkpoint may name, such as one of your own.

    Returns:
        the method on the CPU in evaluation mode.

    Raises:
        UserError: if there is no checkpoint, it is damaged, it does not hold a method that was trained by
            ``xdomain fit``, or it names what is not allowed.
    """
    if not Path(path).exists():
        raise UserError(f"checkpoint {path} does not exist: give a .ckpt file or a run folder.")
    file = resolve_checkpoint(str(path), prefer="best")
    checkpoint = read_checkpoint(file)
    method: Method | None
    settings = checkpoint.get("hyper_parameters")
    if not isinstance(settings, dict) or not isinstance(settings.get("_class_path"), str):
        raise UserError(f"{file} does not name its method: load it with load_from_checkpoint() of the method's class.")
    settings = {str(name): value for name, value in settings.items() if name != "_instantiator"}
    name = settings.pop("_class_path")
    allowed = (*TRUSTED, *allow)
    try:
        kind = find_class(Method, "the method", name, [Method], allowed)
        check_settings(kind, settings, allowed)
    except UserError as error:
        raise UserError(f"{file} is refused: {error}") from error
    settings = {key: value for key, value in settings.items() if not set(wanted(kind, key)) & set(FOR_TRAINING)}
    try:
        with torch.device("meta"):  # takes no memory: shapes that a damaged or hostile file makes up end here
            method = _build(name, settings)
    except Exception:  # not every network can be built so
        method = None
    shapes = {key: value.shape for key, value in method.state_dict().items()} if method is not None else {}
    for key, value in checkpoint["state_dict"].items():
        if key in shapes and getattr(value, "shape", None) != shapes[key]:
            raise UserError(f"the weights in {file} are not those of this version of {name}: {key} differs.")
    try:
        method = _build(name, settings)
    except Exception as error:  # whatever a constructor raises
        raise UserError(f"{file} does not fit this version of {name}: {refusal(error)}") from error
    weights = _fitting(method, checkpoint, file, name)
    if not all(weight.isfinite().all() for weight in weights.values()):
        raise UserError(f"the weights in {file} are not finite numbers: its training went wrong, give another.")
    method.load_state_dict(weights)
    return method.eval()


def _build(name: str, settings: dict[str, Any]) -> Method:
    method: Method = instantiate_module(Method, {"_class_path": name, **settings})
    return method


def _fitting(method: Method, checkpoint: dict[str, Any], file: Path, name: str) -> dict[str, Tensor]:
    """The weights as this version of the method wants them, all there and of its shapes."""
    content = {"state_dict": dict(checkpoint["state_dict"])}  # nothing of what a training would go on with
    method.on_load_checkpoint(content)
    found = {key: getattr(value, "shape", None) for key, value in content["state_dict"].items()}
    if found != {key: value.shape for key, value in method.state_dict().items()}:
        raise UserError(f"the weights in {file} are not those of this version of {name}: give another.")
    return content["state_dict"]
