"""Shared fixtures: a cache folder of the test session's own, few threads, and toys that train in milliseconds."""

import os

import pytest
import torch

NAMES = ("XDOMAIN_CACHE", "XDOMAIN_DATA", "XDOMAIN_FRESH", "WANDB_MODE", "OMP_NUM_THREADS")


@pytest.fixture(scope="session", autouse=True)
def _session_cache(tmp_path_factory):
    """Everything that is drawn or trained once is drawn or trained once per session, outside the user's cache."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"  # one for all worker processes
    folder.mkdir(exist_ok=True)
    before = {name: os.environ.get(name) for name in NAMES}
    os.environ["XDOMAIN_CACHE"] = str(folder)
    os.environ["XDOMAIN_FRESH"] = "1"  # helpers of the package are not what is tested
    os.environ["WANDB_MODE"] = "offline"
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start: toys are slower on many threads
    torch.set_num_threads(1)
    os.environ.pop("XDOMAIN_DATA", None)
    yield folder
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(autouse=True)
def _in_tmp_folder(tmp_path, monkeypatch):
    """Runs write below the current folder: give every test its own."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
