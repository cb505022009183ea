"""Loading methods from checkpoints."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.cli import instantiate_module
from torch import Tensor

from xdomain.classes import FOR_TRAINING, TRUSTED, check_settings, find_class, wanted
from xdomain.errors import UserError, refusal
from xdomain.inference.packed import is_packed, packed_file, read_packed
from xdomain.methods import Method
from xdomain.running.checkpoints import read_checkpoint
from xdomain.running.folder import resolve_checkpoint


def load(path: str | os.PathLike[str], allow: Sequence[str] = ()) -> Method:
    """Load a trained method from its checkpoint alone, without recipe, data or helper networks.

    A checkpoint names the classes that the method is built from. Only those in ``xdomain`` and ``torch`` are used, so
    that a file from someone else cannot run its own code. Optimisers are not built.

    Args:
        path: checkpoint file, run folder (loads its ``best`` checkpoint, else ``last``), packed weights
            (``*.safetensors``), ``zoo:NAME`` for weights that come with the package, or ``hf:OWNER/NAME@REVISION`` for
            those of the Hugging Face Hub (without a revision its main branch).
        allow: more packages or modules that the checkpoint may name, such as one of your own.

    Returns:
        the method on the CPU in evaluation mode.

    Raises:
        UserError: if there is no checkpoint, if it is damaged, if it does not hold a method trained by ``xdomain fit``,
            or if it names classes that are not allowed.
    """
    if is_packed(path):
        file = packed_file(path)
        checkpoint = read_packed(file)
    elif Path(path).exists():
        file = resolve_checkpoint(str(path), prefer="best")
        checkpoint = read_checkpoint(file)
    else:
        raise UserError(f"checkpoint {path} does not exist: give a .ckpt file or a run folder.")
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
        with torch.device("meta"):  # takes no memory: made-up shapes of a damaged or hostile file end here
            method = _build(name, settings)
    except Exception:  # not every network can be built like this
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
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* is an instance of `nn.Module`")  # advice for those who train
        method: Method = instantiate_module(Method, {"_class_path": name, **settings})
    return method


def _fitting(method: Method, checkpoint: dict[str, Any], file: Path, name: str) -> dict[str, Tensor]:
    """The weights as this version of the method expects them: complete and with the right shapes."""
    content = {"state_dict": dict(checkpoint["state_dict"])}  # without the state that only a resumed training needs
    for key, value in method.state_dict().items():
        if key.split(".")[0] in checkpoint.get("left_out", ()):
            content["state_dict"].setdefault(key, value)
    method.on_load_checkpoint(content)
    found = {key: getattr(value, "shape", None) for key, value in content["state_dict"].items()}
    if found != {key: value.shape for key, value in method.state_dict().items()}:
        raise UserError(f"the weights in {file} are not those of this version of {name}: give another.")
    return content["state_dict"]
