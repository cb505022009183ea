"""Methods out of checkpoints."""

import os
from pathlib import Path

import torch
from pytorch_lightning.cli import instantiate_module

from xdomain.errors import UserError, refusal
from xdomain.methods import Method
from xdomain.running.folder import resolve_checkpoint


def load(path: str | os.PathLike[str]) -> Method:
    """A trained method from its checkpoint alone: no recipe, no data, no helper network is needed.

    Args:
        path: checkpoint file, or run folder (its ``best`` checkpoint is taken, else ``last``).

    Returns:
        the method on the CPU in evaluation mode.

    Raises:
        UserError: if there is no checkpoint, or it does not hold a method that was trained by ``xdomain fit``.
    """
    if not Path(path).exists():
        raise UserError(f"checkpoint {path} does not exist: give a .ckpt file or a run folder.")
    file = resolve_checkpoint(str(path), prefer="best")
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        settings, state = dict(checkpoint["hyper_parameters"]), checkpoint["state_dict"]
    except Exception as error:  # torch, pickle and zip errors of many kinds
        raise UserError(f"{file} cannot be read as a checkpoint ({type(error).__name__}): give another.") from error
    if "_class_path" not in settings:
        raise UserError(f"{file} does not name its method: load it with load_from_checkpoint() of the method's class.")
    settings.pop("_instantiator", None)
    try:
        method = instantiate_module(Method, settings)
    except Exception as error:  # whatever a constructor raises
        raise UserError(f"{file} does not fit this version of {settings['_class_path']}: {refusal(error)}") from error
    method.on_load_checkpoint(checkpoint)
    try:
        method.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"the weights in {file} are not those of this version of {settings['_class_path']}.") from error
    return method.eval()
