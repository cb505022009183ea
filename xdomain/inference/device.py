"""Choice of the device, and errors about memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from xdomain.errors import UserError, refuse


def find_device(wanted: str) -> str:
    """The device to run on, ``cpu`` or ``cuda``; ``auto`` takes CUDA if there is one."""
    if wanted == "cuda" and not torch.cuda.is_available():
        refuse(None, "device", wanted, ", but torch finds no CUDA device: give cpu or leave it out.")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turn torch's out-of-memory errors into one sentence."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate" not in str(error) and "out of memory" not in str(error):
            raise
        raise UserError("there is not enough memory: give smaller images, or a smaller batch_size.") from error
