"""The entry of the command line: what becomes of errors of the system."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xdomain.commands import main as module
from xdomain.commands.main import main


def test_a_reader_that_is_gone_is_no_error():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "xdomain", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (PermissionError(13, "Permission denied", "/a/b"), "/a/b: this place is protected: give another place."),
    ],
)
def test_a_place_that_cannot_be_written_is_named(monkeypatch, capsys, error, end):
    def fail(args):
        raise error

    monkeypatch.setattr(module, "command", fail)
    assert main(["fit"]) == 2
    assert capsys.readouterr().err == f"xdomain: error: {end}\n"
    error.errno = 9
    with pytest.raises(OSError, match=r"denied|space"):
        main(["fit"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_protected_results_folder(capsys):
    Path("results").mkdir(mode=0o500)
    Path("run").mkdir()
    Path("run/results.json").write_text('{"recipe": "x", "metrics": {}}')
    assert main(["table", "--collect", "run"]) == 2
    assert "protected" in capsys.readouterr().err
