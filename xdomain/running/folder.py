"""Run folders: one per training, never shared; everything a run writes is in it."""

import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from xdomain.discover import PACKAGE
from xdomain.errors import UserError, refuse
from xdomain.files import cannot_write, whole_file

CHECKPOINTS = "checkpoints"
LONGEST_NAME = 240
"""Bytes; file systems take 255, and a name gets an ending."""


def checked_name(owner: object, name: str) -> str:
    """The name of a run if a folder can bear it; see :func:`xdomain.errors.refuse` for ``owner`` and the error."""
    if not re.fullmatch(r"[^./\\\0\n][^/\\\0\n]*", name):
        refuse(owner, "recipe", repr(name), "give a plain name, without folders.")
    if len(name.encode()) > LONGEST_NAME:
        refuse(owner, "recipe", f"{len(name.encode())} bytes", f"give a name of at most {LONGEST_NAME}.")
    return name


def new_run_dir(parent: Path) -> Path:
    """Make and return the next numbered folder; two processes never get the same."""
    parent.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(p.name) for p in parent.iterdir() if p.name.isdigit()), default=0)
    while True:
        try:
            (folder := parent / f"{number:04d}").mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def run_dir(trainer: object) -> Path | None:
    """The folder of the run that a trainer works in.

    None before the run has one, under ``fast_dev_run``, which writes nothing, and for Lightning's own trainer.
    """
    found = getattr(trainer, "run_dir", None)
    return Path(found) if found else None


def facts_of(folder: Path) -> dict[str, Any]:
    """What ``run.json`` of a run folder says; nothing where there is none."""
    path = folder / "run.json"
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged: delete it, or give another run folder.") from error


def newest_config(folder: Path) -> Path:
    """The config of a run's last continuation; ``config.yaml`` where there was none, or no config at all."""
    numbers = {int(m[1]): p for p in folder.glob("config_resumed_*.yaml") if (m := re.search(r"_(\d+)\.yaml$", p.name))}
    return numbers[max(numbers)] if numbers else folder / "config.yaml"


def run_dir_of(checkpoint: str | os.PathLike[str]) -> Path | None:
    """The run folder that a checkpoint file lies in, if it lies in one."""
    folder = Path(checkpoint).parent
    return folder.parent if folder.name == CHECKPOINTS else None


def resolve_checkpoint(path: str, prefer: str, runs: Path | None = None) -> Path:
    """The checkpoint file meant by a path.

    Args:
        path: a checkpoint file, a run folder, or ``last`` or ``best`` for the newest run in ``runs``.
        prefer: which one to take of a run folder that has both, ``last`` or ``best``.
        runs: folder that holds the runs of one recipe.

    Raises:
        UserError: if there is no such checkpoint.
    """
    given = Path(path)
    if path in ("last", "best") and not given.exists():
        newest = sorted(runs.glob(f"[0-9]*/{CHECKPOINTS}/{path}.ckpt")) if runs else []
        if not newest:
            raise UserError(f"no {path} checkpoint below {runs}: train first, or give --ckpt_path a run folder.")
        return newest[-1]
    if given.is_dir():
        for name in (prefer, "last"):
            if (file := given / CHECKPOINTS / f"{name}.ckpt").is_file():
                return file
        raise UserError(f"the run folder {path} holds no checkpoint ({CHECKPOINTS}/last.ckpt is missing).")
    if not given.is_file():
        raise UserError(f"checkpoint {path} does not exist: give a .ckpt file, a run folder, `last` or `best`.")
    return given


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that is either whole or not there; a device or pipe is written to, never replaced.

    Raises:
        UserError: where it cannot be written.
    """
    text = json.dumps(content, indent=2) + "\n"
    if path.exists() and not path.is_file():
        try:
            path.write_text(text)
        except OSError as error:
            raise cannot_write(path, error) from error
        return
    with whole_file(path) as file:
        file.write(text.encode())


def git_commit() -> str | None:
    """The commit of the source checkout that is running, None if there is none.

    With ``+`` if the package or its recipes differ from it.
    """

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=PACKAGE, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + (
            "+" if git("status", "--porcelain", "--", ".", ":/configs") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def hardware() -> str:
    """The processor or accelerator, in words."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"CPU, {platform.machine()}, {torch.get_num_threads()} threads"
