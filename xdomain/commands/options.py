"""What the commands with options of their own share: the parser, the device, numbers."""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

from xdomain.commands.messages import explain
from xdomain.errors import UserError, choice

WHAT = {"batch_size": "a number of images", "steps": "a number of tiles", "frames": "a number of frames"}


class Parser(argparse.ArgumentParser):
    """Parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UserError(" ".join(filter(None, explain(self, message))))


def check_use(options: argparse.Namespace, uses: Mapping[str, tuple[str, ...]]) -> None:
    """Raise a UserError for an option that the task does not have."""
    for name, tasks in uses.items():
        if getattr(options, name) is not None and options.task not in tasks:
            raise UserError(f"--{name} is for --task {choice(tasks)}, not for {options.task}: leave it out.")


def check_numbers(options: argparse.Namespace, **least: int) -> None:
    """Raise a UserError for a number that is too small."""
    for name, lowest in least.items():
        value = getattr(options, name)
        if value is not None and not lowest <= value < 2**63:
            raise UserError(f"--{name} is {value}: give {WHAT.get(name, 'a whole number')} of at least {lowest}.")


def find_device(wanted: str) -> str:
    """The device to work on: ``cpu`` or ``cuda``, out of ``auto`` or one of them."""
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("--device is cuda, but torch finds no CUDA device: give cpu or leave it out.")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turn torch's errors about memory into one sentence."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate" not in str(error):
            raise
        raise UserError("there is not enough memory: give smaller images, or a smaller --batch_size.") from error
