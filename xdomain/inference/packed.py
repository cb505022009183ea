"""Packed weights: small files of trained methods, some of which come with the package."""

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from xdomain.discover import PACKAGE
from xdomain.errors import UserError, choice, did_you_mean
from xdomain.inference import hub
from xdomain.renamed import in_new_words
from xdomain.running.weights import full_precision, is_whole

WEIGHTS = PACKAGE / "weights"
ZOO = "zoo:"


def packed_names() -> list[str]:
    """The trained weights that come with the package."""
    return sorted(file.stem for file in WEIGHTS.glob("*.safetensors"))


def is_packed(path: str | os.PathLike[str]) -> bool:
    """Whether a path names packed weights: a file ``*.safetensors``, ``zoo:NAME``, or ``hf:OWNER/NAME`` on the Hub."""
    return str(path).startswith((ZOO, hub.HUB)) or Path(path).suffix == ".safetensors"


def packed_file(path: str | os.PathLike[str]) -> Path:
    """The file of packed weights; those on the Hub are downloaded first.

    Raises:
        UserError: if there is none, or if it cannot be had.
    """
    if str(path).startswith(ZOO):
        name = str(path).removeprefix(ZOO)
        if name not in (known := packed_names()):
            hint = did_you_mean(name, known, f": give {choice(known)}." if known else ".")
            raise UserError(f"{path} is none of the weights that come with xdomain{hint}")
        return WEIGHTS / f"{name}.safetensors"
    if str(path).startswith(hub.HUB):
        return hub.fetched(str(path))
    if not (file := Path(path)).is_file():
        raise UserError(f"the weights {path} do not exist: give a file that `xdomain pack` made, or a run folder.")
    return file


def read_packed(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Content of packed weights as that of a checkpoint; ``left_out`` names networks that only a training needs.

    Raises:
        UserError: if there are none, or if they are damaged or not packed by this project.
    """
    file = packed_file(path)
    card_file = card_of(file)
    try:
        card = json.loads(card_file.read_text())
        method, settings, left_out = card["method"], dict(card["settings"]), [str(name) for name in card["left_out"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{file} has no card {card_file.name} that says how it is used: copy both files.") from error
    if not is_whole(file, card_file):
        raise UserError(f"{file} is damaged: its checksum is not that of its card. Give another.")
    try:
        state = {name: full_precision(value) for name, value in load_file(file).items()}
    except SafetensorError as error:
        raise UserError(f"{file} holds no weights: give another.") from error
    content = {"state_dict": state, "hyper_parameters": {"_class_path": method, **settings}, "left_out": left_out}
    return in_new_words(content)


def card_of(weights: Path) -> Path:
    """The card beside packed weights: of their name, or ``config.json`` as in a repository of the Hub."""
    own, other = weights.with_suffix(".json"), weights.with_name(hub.CARD)
    return other if weights.name == hub.WEIGHTS and not own.exists() else own
