"""Reading checkpoints: verified by checksums, and without executing code."""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from xdomain.errors import UserError
from xdomain.renamed import in_new_words


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Content of a checkpoint, on the CPU, with the names of this version.

    The checksums of the archive are verified first: torch does not do that, and would load weights with a flipped bit.

    Raises:
        UserError: for a file that is not a checkpoint, is damaged, or can only be read by an earlier version.
    """
    file = Path(path)
    try:
        with zipfile.ZipFile(file) as archive:
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                raise UserError(f"{file} is no checkpoint: it is a compressed archive, give another.")
            damaged = archive.testzip()
    except UserError:
        raise
    except Exception as error:  # as many kinds as there are kinds of damage
        raise UserError(f"{file} is no checkpoint, or is damaged or cut off: give another.") from error
    if damaged is not None:
        raise UserError(f"{file} is damaged: the checksum of {damaged} is wrong. Give another.")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # likewise
        raise UserError(f"{file} cannot be read as a checkpoint ({type(error).__name__}): give another.") from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise UserError(f"{file} cannot be read as a checkpoint, since it holds no weights of a method: give another.")
    try:
        return in_new_words(content)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    except Exception as error:  # from made-up settings
        raise UserError(f"{file} cannot be read as a checkpoint ({type(error).__name__}): give another.") from error
