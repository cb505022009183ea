"""Ending a process: by a signal, with the status that shells expect, or together with its parent."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM)
PARENT = "XDOMAIN_PARENT"
"""Environment variable with the id of the process whose end also ends this one."""
PR_SET_PDEATHSIG = 1


class Stopped(SystemExit):
    """A signal ends the process, with the status 128 + its number (130 for SIGINT, 143 for SIGTERM).

    Args:
        signum: number of the signal.
        rest: text after "stopped by SIGNAL" on the screen; None prints nothing.
    """

    def __init__(self, signum: int, rest: str | None = ".") -> None:
        super().__init__(128 + signum)
        self.sentence = None if rest is None else f"stopped by {signal.Signals(signum).name}{rest}"


class Handler:
    """What a signal does to the process that made this: a loader's worker inherits it, and ends with its owner.

    Args:
        action: called with the number of the signal.

    Attributes:
        silent: whether the signal does nothing any more.
    """

    def __init__(self, action: Callable[[int], None]) -> None:
        self.action, self.silent = action, False
        self._process = os.getpid()

    def __call__(self, signum: int, _: FrameType | None) -> None:
        if os.getpid() == self._process and not self.silent:
            self.action(signum)


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise :class:`Stopped`, so that unfinished work is cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int) -> None:
        raise Stopped(signum)

    before = {signum: signal.signal(signum, Handler(stop)) for signum in ENDING}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def end_with_parent() -> None:
    """End this process when its parent ends, if the parent is a process of this package.

    The training of a helper or a rank of a training has no purpose on its own. On Linux the kernel ends it at once; in
    addition it checks once a second whether its parent is still running.
    """
    parent, os.environ[PARENT] = int(os.environ.get(PARENT, "0")), str(os.getpid())
    if parent in (0, os.getpid()) or (os.getppid() != parent and _runs(parent)):
        return
    if hasattr(signal, "SIGUSR1"):  # SLURM sends it to every process of a job, and the parent decides what follows
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
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
