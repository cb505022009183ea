"""How a process ends."""

import os
import signal
import subprocess
import sys
import time

import pytest

from xdomain.running import signals
from xdomain.running.signals import PARENT, Stopped, stoppable


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_gives_its_status(signum, status):
    before = signal.getsignal(signum)
    with pytest.raises(Stopped, match=str(status)) as stopped, stoppable():
        os.kill(os.getpid(), signum)
    assert stopped.value.sentence == f"stopped by {signum.name}."
    assert signal.getsignal(signum) == before


def test_a_child_of_the_process_is_not_stopped_for_it():
    with stoppable():
        if (child := os.fork()) == 0:
            os.kill(os.getpid(), signal.SIGINT)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


CHILD = "from xdomain.running.signals import end_with_parent; end_with_parent(); import time; time.sleep(60)"
PARENT_CODE = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], env={{**os.environ, "{PARENT}": str(os.getpid())}})
print(child.pid, flush=True)
time.sleep(60)
"""


def test_a_process_ends_with_its_parent_and_not_when_slurm_announces_the_end():
    parent = subprocess.Popen([sys.executable, "-c", PARENT_CODE], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    time.sleep(0.3)
    os.kill(child, signal.SIGUSR1)
    time.sleep(0.1)
    assert runs(child)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while runs(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not runs(child)


def runs(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_where_the_kernel_does_not_help_the_parent_is_looked_for(monkeypatch):
    ended = []
    monkeypatch.setattr(signals.os, "getppid", lambda: 1)
    monkeypatch.setattr(signals.os, "_exit", ended.append)
    signals._watch(12345)
    assert ended == [143]


@pytest.mark.parametrize("parent", ["0", str(os.getpid()), "1"], ids=["none", "itself", "init"])
def test_a_process_that_nobody_started_here_stays(monkeypatch, parent):
    monkeypatch.setenv(PARENT, parent)
    monkeypatch.setattr(signals.ctypes, "CDLL", lambda _: pytest.fail("tied"))
    signals.end_with_parent()
    assert os.environ[PARENT] == str(os.getpid())
