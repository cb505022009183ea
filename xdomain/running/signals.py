"""How a process ends: by a signal, with the status that shells expect, or with the process that started it."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM)
PARENT = "XDOMAIN_PARENT"
"""Environment variable: number of the process whose end also ends the one that finds it."""
PR_SET_PDEATHSIG = 1


class Stopped(SystemExit):
    """A signal ends the process, with the status 128 + its number (130 for SIGINT, 143 for SIGTERM).

    Args:
        signum: number of the signal.
        rest: what follows "stopped by SIGNAL" on the screen; None says nothing.
    """

    def __init__(self, signum: int, rest: str | None = ".") -> None:
        super().__init__(128 + signum)
        self.sentence = None if rest is None else f"stopped by {signal.Signals(signum).name}{rest}"


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise :class:`Stopped`, so that what is half done is tidied up on the way out."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def stop(signum: int, _: FrameType | None) -> None:
        if os.getpid() == process:  # a loader's worker inherits this, and ends with its owner
            raise Stopped(signum)

    before = {signum: signal.signal(signum, stop) for signum in ENDING}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def end_with_parent() -> None:
    """End this process when the one that started it ends, if that is one of this package.

    A helper's training or a rank of a training has no purpose of its own. On Linux the kernel ends it at once; beside
    that it looks once a second whether its parent is still there.
    """
    parent, os.environ[PARENT] = int(os.environ.get(PARENT, "0")), str(os.getpid())
    if parent in (0, os.getpid()) or (os.getppid() != parent and _runs(parent)):
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent,), daemon=True, name="parent").start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(128 + signal.SIGTERM)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True
