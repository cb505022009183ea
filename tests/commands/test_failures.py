"""What goes wrong around the program is one sentence, and the status says so."""

import errno

import pytest
import torch

from xdomain.commands import main as entry
from xdomain.commands.main import main
from xdomain.commands.messages import failure
from xdomain.running.signals import Stopped


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/x/last.ckpt"),
            "runs/x/last.ckpt cannot be written or read",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "make room"),
        (
            PermissionError(errno.EACCES, "Permission denied", "runs"),
            "runs cannot be written or read (Permission denied)",
        ),
        (MemoryError(), "smaller batch_size"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "smaller batch_size"),
        (RuntimeError("could not create a primitive"), "oneDNN"),
        (RuntimeError("DataLoader worker (pid 77) is killed by signal: Killed."), "num_workers"),
        (RuntimeError("DataLoader worker (pid(s) 77, 78) exited unexpectedly"), "num_workers"),
        (
            RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1"),
            "another process",
        ),
        (RuntimeError("Error(s) in loading state_dict for DTN:\n Missing key(s)"), "does not fit this DTN"),
    ],
)
def test_known_failures(error, words):
    told = failure(error)
    assert words in told
    assert told.endswith(".")
    assert "\n" not in told


def test_torch_says_that_memory_is_used_up():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**58)
    assert "smaller batch_size" in failure(error.value)


@pytest.mark.parametrize(
    "error", [ValueError("x must be y"), KeyError("a"), RuntimeError("shapes differ"), OSError("x")]
)
def test_faults_of_the_program_stay_what_they_are(error, monkeypatch):
    assert failure(error) is None
    monkeypatch.setattr(entry, "_command", lambda _: (_ for _ in ()).throw(error))
    with pytest.raises(type(error)):
        main(["list"])


def test_statuses(monkeypatch, capsys):
    for error, status in (
        (MemoryError(), 1),
        (Stopped(2), 130),
        (Stopped(15, " after step 3."), 143),
        (Stopped(15, None), 143),
    ):
        monkeypatch.setattr(entry, "_command", lambda _, error=error: (_ for _ in ()).throw(error))
        assert main(["list"]) == status
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:] == ["xdomain: stopped by SIGINT.", "xdomain: stopped by SIGTERM after step 3."]
    assert len(lines) == 3
