"""Files of weights, with a card beside them that holds their checksum."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from xdomain.files import whole_file
from xdomain.running.folder import write_json


def is_whole(weights: Path, card_file: Path | None = None) -> bool:
    """Whether a weights file of :func:`keep_weights` exists and is undamaged; its card may have another name."""
    try:
        card = json.loads((card_file or weights.with_suffix(".json")).read_text())
        return bool(hashlib.sha256(weights.read_bytes()).hexdigest() == card["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def keep_weights(weights: Path, state: dict[str, Tensor], **facts: Any) -> None:
    """Write weights and, beside them, a card with their checksum and further facts.

    Args:
        weights: file to write or replace, ending in ``.safetensors``.
        state: weights by name.
        facts: what the card says besides, as plain types.

    Raises:
        UserError: if they cannot be written.
    """
    content = save({name: value.detach().cpu().contiguous() for name, value in state.items()})
    with whole_file(weights) as file:
        file.write(content)
    write_json(weights.with_suffix(".json"), {**facts, "sha256": hashlib.sha256(content).hexdigest()})


def halved(value: Tensor) -> Tensor:
    """A weight in half precision, or as it is if that is out of range or is no float32."""
    if value.dtype != torch.float32:
        return value
    half = value.half()
    return half if half.isfinite().all() else value


def full_precision(value: Tensor) -> Tensor:
    """A weight as float32; whole numbers stay as they are."""
    return value.float() if value.is_floating_point() else value
