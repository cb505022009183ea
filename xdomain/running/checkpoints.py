"""Reading checkpoints: whole, unchanged since they were written, and never as code."""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from xdomain.errors import UserError
from xdomain.renamed import in_new_words


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU and in the words of this version.

    The checksums of the archive are compared first: torch does not do that, and would load weights of which a bit has
    flipped.

    Raises:
        UserError: for a file that is no checkpoint, is damaged, or belongs to an earlier version alone.
    """
    file = Path(path)
    try:
        with zipfile.ZipFile(file) as archive:
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                raise UserError(f"{file} is no checkpoint: it is a compressed archive, give another.")
            damaged = archive.testzip()
    except UserError:
        raise
    except Exception as error:  # of many kinds, as the damage
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
    except Exception as error:  # of settings that nobody wrote
        raise UserError(f"{file} cannot be read as a checkpoint ({type(error).__name__}): give another.") from error
