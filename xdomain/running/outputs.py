"""Where commands write: what cannot be written or would be replaced is refused before any work."""

import os
from collections.abc import Sequence
from pathlib import Path

from xdomain.errors import UserError

MOST_PIXELS = 2**24
"""Of one picture or clip: the maps of a network with 64 channels over so many take 4 GB."""


def check_folder(folder: Path) -> None:
    """Raise a UserError for an output folder that is a file, or that cannot be made or written."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"the output {folder} is a file: give a folder.")
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise UserError(f"the output {folder} cannot be made, since {there} is a file: give another.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"the output {folder} cannot be written, since {there} is protected: give another.")


def check_new(files: Sequence[Path], overwrite: bool) -> None:
    """Raise a UserError if any of the files to write exists, unless they may be overwritten."""
    existing = [file for file in files if os.path.lexists(file)]  # links too, wherever they lead
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more of the output files exist" if existing[1:] else " exists"
        raise UserError(f"{existing[0]}{more} already: give another output, or overwrite.")
