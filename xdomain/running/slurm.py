"""Jobs of SLURM that are started again when their time is over."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from xdomain.running.signals import Handler, Stopped

ANNOUNCING = getattr(signal, "SIGUSR1", None)
"""The signal that announces the end of a job's time, unless the trainer's SLURM plugin names another."""
INTERACTIVE = ("bash", "interactive")


def job() -> str | None:
    """The id of the SLURM job of this process."""
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    return os.environ.get("SLURM_JOB_ID")


def started_again(number: str) -> str:
    """Ask SLURM to start a job again; what came of it, as the rest of a sentence."""
    try:
        done = subprocess.run(["scontrol", "requeue", number], stdout=subprocess.DEVNULL).returncode == 0
    except OSError:
        done = False
    return f"; SLURM starts job {number} again" if done else f"; scontrol could not requeue job {number}"


@contextmanager
def announced() -> Iterator[None]:
    """In a job of SLURM, let the signal that announces its end have it started again.

    This is for the time before a training handles the signal itself, such as that of its helper networks: nothing is
    there yet that could be saved. By default the signal would end the process, and the job with it.
    """
    interactive = os.environ.get("SLURM_JOB_NAME") in INTERACTIVE
    in_job = job() is not None and "SLURM_NTASKS" in os.environ and not interactive
    if not in_job or ANNOUNCING is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(ANNOUNCING, Handler(_start_again))
    try:
        yield
    finally:
        signal.signal(ANNOUNCING, before)


def _start_again(signum: int) -> None:
    if os.environ.get("SLURM_PROCID", "0") != "0":
        raise Stopped(signum, None)  # reported by one process
    number = job()
    assert number is not None
    for ending in (ANNOUNCING, signal.SIGTERM):  # SLURM ends a job that is to start again
        if ending is not None and isinstance(handler := signal.getsignal(ending), Handler):
            handler.silent = True
    raise Stopped(signum, f" before the first batch{started_again(number)}.")
