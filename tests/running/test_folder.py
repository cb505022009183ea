"""Run folders and what paths mean."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from xdomain.discover import PACKAGE
from xdomain.errors import UserError
from xdomain.running import folder
from xdomain.running.folder import git_commit, hardware, new_run_dir, resolve_checkpoint, run_dir_of, write_json


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_runs_are_numbered(tmp_path):
    assert [new_run_dir(tmp_path / "dtn").name for _ in range(3)] == ["0001", "0002", "0003"]
    (tmp_path / "dtn" / "0041").mkdir()
    (tmp_path / "dtn" / "notes").mkdir()
    (tmp_path / "dtn" / "0002").rmdir()
    assert new_run_dir(tmp_path / "dtn").name == "0042"


def test_no_two_runs_share_a_folder(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(new_run_dir, [tmp_path] * 40))
    assert len(set(folders)) == 40
    assert all(folder.is_dir() for folder in folders)


def test_checkpoint_forms(tmp_path):
    first, second, third = (tmp_path / "dtn" / name for name in ("0001", "0002", "0003"))
    for file in (first, second):
        touch(file / "checkpoints" / "last.ckpt")
    best = touch(first / "checkpoints" / "best.ckpt")
    third.mkdir()  # died before its first checkpoint
    last = second / "checkpoints" / "last.ckpt"
    assert resolve_checkpoint(str(best), "last") == best
    assert resolve_checkpoint(str(first), "best") == best
    assert resolve_checkpoint(str(first), "last") == first / "checkpoints" / "last.ckpt"
    assert resolve_checkpoint(str(second), "best") == last  # it has no best
    assert resolve_checkpoint("last", "best", tmp_path / "dtn") == last
    assert resolve_checkpoint("best", "last", tmp_path / "dtn") == best


def test_checkpoints_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r"x.ckpt does not exist"):
        resolve_checkpoint("x.ckpt", "last")
    with pytest.raises(UserError, match="holds no checkpoint"):
        resolve_checkpoint(str(tmp_path), "best")
    for parent in (tmp_path / "none", None):
        with pytest.raises(UserError, match="no best checkpoint below"):
            resolve_checkpoint("best", "best", parent)


def test_run_folder_of_a_checkpoint():
    assert run_dir_of("runs/dtn/0001/checkpoints/last.ckpt") == Path("runs/dtn/0001")
    assert run_dir_of("elsewhere/last.ckpt") is None


def test_json_is_whole_or_not_there(tmp_path):
    path = tmp_path / "new" / "x.json"
    write_json(path, {"a": [1, 2]})
    assert json.loads(path.read_text()) == {"a": [1, 2]}
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": [1, 2]}


def test_a_device_is_written_to_and_never_replaced(tmp_path):
    for device in ("full", "null"):
        (tmp_path / device).symlink_to(f"/dev/{device}")
    write_json(tmp_path / "null", {"a": 1})
    with pytest.raises(UserError, match=r"full cannot be written: No space left on device\."):
        write_json(tmp_path / "full", {"a": 1})
    with pytest.raises(UserError, match=r"cannot be written: Is a directory\."):
        write_json(tmp_path, {"a": 1})
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_symlink()) == ["full", "null"]
    assert len(list(tmp_path.iterdir())) == 2


def test_commit_of_the_checkout(monkeypatch):
    answers = {"rev-parse": "0123456789ab\n", "status": ""}

    def fake(command, **options):
        assert Path(options["cwd"]) == PACKAGE
        return subprocess.CompletedProcess(command, 0, answers[command[1]], "")

    monkeypatch.setattr(folder.subprocess, "run", fake)
    assert git_commit() == "0123456789ab"
    answers["status"] = " M x.py\n"
    assert git_commit() == "0123456789ab+"

    def absent(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(folder.subprocess, "run", absent)
    assert git_commit() is None


def test_hardware_is_named():
    assert hardware()
