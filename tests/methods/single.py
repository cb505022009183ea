"""A small photograph for the methods that learn from a single sample, and what tests of all of them need."""

import numpy as np
import pytest
import torch

from tests.running.test_resume import differences
from tests.toys import trainer
from xdomain.data.single import SingleSample
from xdomain.running.metrics_file import read_metrics


def photograph(height, width, seed=0):
    """Smooth colours with some texture, ``uint8`` [3, H, W]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [np.sin(6 * (y * a + x * b) + c) for a, b, c in rng.uniform(-2, 2, (3, 3))]
    picture = np.stack(waves) * 90 + 127 + rng.normal(0, 12, (3, height, width))
    return torch.from_numpy(picture.clip(0, 255).astype(np.uint8))


class OneImage(SingleSample):
    """One picture of 20x26 pixels."""

    domains, channels, image_size = ("image",), (3,), 26

    def __init__(self, **options):
        super().__init__(**{"steps_per_epoch": 4, **options})
        self.samples = {"a": photograph(20, 26)}


class TwoImages(SingleSample):
    """Two pictures, of 20x26 and 24x20 pixels."""

    domains, channels, image_size = ("left", "right"), (3, 3), 26

    def __init__(self, **options):
        super().__init__(**{"steps_per_epoch": 4, **options})
        self.samples = {"a": photograph(20, 26), "b": photograph(24, 20, seed=1)}


class OneClip(SingleSample):
    """A clip of 5 frames of 16x20 pixels."""

    domains, channels, image_size = ("video",), (3,), 20

    def __init__(self, **options):
        super().__init__(**{"steps_per_epoch": 4, **options})
        wide = photograph(16, 28)
        self.samples = {"a": torch.stack([wide[:, :, 2 * t : 2 * t + 20] for t in range(5)], 1)}


def facts(data):
    """What the command line passes from the data to a method."""
    return {name: getattr(data, name) for name in ("domains", "channels", "image_size", "shapes")}


def train(method, data, folder, ckpt_path=None, **options):
    """Fit quietly, to the end of the last scale; returns the checkpoint."""
    quiet = {
        "max_steps": -1,
        "max_epochs": -1,
        "check_val_every_n_epoch": None,
        "val_check_interval": 3,
        "log_every_n_steps": 1,
    }
    run = trainer(run_dir=str(folder), **{**quiet, **options})
    run.fit(method, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


class Stopped(Exception):
    """Stands for the end of the process."""


def killed(method, step):
    """The same method, which dies in the middle of the updates of a batch."""
    update = method.step

    def dying(name, loss):
        value = update(name, loss)
        if method.trainer.global_step == step:
            raise Stopped
        return value

    method.step = dying
    return method


def assert_resumes_exactly(make, data, folder, stops):
    """A run killed at any of these batches and resumed equals the straight run, weights bit for bit and row for row.

    Args:
        make: makes the method.
        data: makes the data module.
        folder: an empty folder.
        stops: numbers of batches.
    """
    torch.manual_seed(1)
    straight = train(make(), data(), folder / "straight")
    for stop in stops:
        torch.manual_seed(1)
        stopped, last = folder / f"stopped_{stop}", folder / f"stopped_{stop}" / "checkpoints" / "last.ckpt"
        with pytest.raises(Stopped):
            train(killed(make(), stop), data(), stopped)
        torch.manual_seed(1)
        resumed = train(make(), data(), stopped, str(last) if last.exists() else None)
        for part in ("state_dict", "optimizer_states", "random_states", "global_step"):
            assert differences(straight[part], resumed[part], part) == [], stop
        assert read_metrics(folder / "straight/metrics.csv") == read_metrics(stopped / "metrics.csv")
