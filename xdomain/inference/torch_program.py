"""Exported programs for torch alone: neither Lightning nor the method is imported."""

import json
import logging
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from xdomain.errors import UserError
from xdomain.inference.device import enough_memory
from xdomain.inference.places import PathLike
from xdomain.inference.program import Program, cannot_read, check_exists

CONSENT = "pt2"
"""What ``--allow`` calls files that run code when they are loaded."""
FACTS = "xdomain.json"
"""Name of the extra file with what a user of a program must know."""


class TorchProgram(Program):
    """An exported program for :func:`torch.export.load`.

    That function unpickles parts of the file, evaluates its expressions and loads compiled code from it: a file from
    somebody else can do anything. Nothing of it is run before ``allow`` says that it is trusted.

    Args:
        path: the ``.pt2`` file.
        allow: must contain ``pt2``.

    Raises:
        UserError: if the file is not trusted, or if it is none that ``xdomain export`` has written.
    """

    def __init__(self, path: PathLike, allow: Sequence[str] = ()) -> None:
        check_exists(path)
        try:
            with zipfile.ZipFile(path) as archive:
                name = next((x for x in archive.namelist() if x.endswith(f"/extra/{FACTS}")), FACTS)
                self.facts: dict[str, Any] = json.loads(archive.read(name))
        except Exception as error:  # whatever a damaged archive leads to
            raise cannot_read(path, error) from error
        if CONSENT not in allow:
            raise UserError(
                f"{path} is refused, as a pt2 file can run any code when it is loaded: give --allow {CONSENT} if you "
                "trust its author, or an .onnx file, which cannot."
            )
        try:
            self._function = loaded(Path(path))
        except Exception as error:
            raise cannot_read(path, error) from error

    def __call__(self, **inputs: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), enough_memory():
            made = self._function(*(torch.from_numpy(np.ascontiguousarray(x)) for x in inputs.values()))
        translations: np.ndarray = made.numpy()
        return translations


def loaded(file: Path | IO[bytes]) -> torch.nn.Module:
    """The module in a pt2 file, on the CPU; a file from somebody else can run any code."""
    with quiet():
        return torch.export.load(file).module()


@contextmanager
def quiet() -> Iterator[None]:
    """Without the words of torch's exporters, which are about their insides."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
