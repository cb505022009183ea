"""A data module and an adversarial method of a few hundred weights."""

import numpy as np
import torch
from torch import nn

from xdomain.data import BaseDataModule, ImageData
from xdomain.methods import Method
from xdomain.running.curves import LearningCurves
from xdomain.running.trainer import Trainer


class Jitter(nn.Module):
    """A random transform of images."""

    def forward(self, images):
        return images + 0.1 * torch.randn_like(images)


class ToyPair(BaseDataModule):
    """Two domains of random 8x8 images; domain b is the smaller one."""

    domains = ("red", "grey")
    channels = (3, 1)
    image_size = 8

    def __init__(self, sizes=(40, 12), jitter=False, **options):
        super().__init__(**{"batch_size": 4, "eval_batch_size": 4, **options})
        self.sizes = dict(zip("ab", sizes, strict=True))
        self.jitter = jitter

    def augmentation(self, role):
        return Jitter() if self.jitter else None

    def data(self, role, split):
        rng = np.random.default_rng([ord(role), *split.encode()])
        count = self.sizes[role] if split == "train" else 10
        channels = dict(zip("ab", self.channels, strict=True))[role]
        images = rng.integers(0, 256, (count, channels, 8, 8), dtype=np.uint8)
        return ImageData(images, rng.integers(0, 3, count))


class ToyGAN(Method):
    """Linear generator and discriminator with dropout, so that training draws random numbers."""

    def __init__(self, dropout=0.5, **options):
        super().__init__(**{"domains": ("red", "grey"), "channels": (3, 1), "image_size": 8, **options})
        self.g = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.Unflatten(1, (1, 8, 8)), nn.BatchNorm2d(1))
        self.D = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(64, 1))

    def build_optimizers(self):
        return {"d": self.optimizer(self.D.parameters()), "g": self.optimizer(self.g.parameters())}

    def training_step(self, batch, batch_idx):
        y_a = self.g(batch["a"].image)
        self.log("l_d", self.step("d", lambda: (self.D(y_a.detach()) - self.D(batch["b"].image)).mean()))
        self.log("l_g", self.step("g", lambda: -self.D(y_a).mean() + y_a.square().mean()))

    directions = (("red", "grey"),)

    def translate(self, images, source, target):
        return self.g(images).tanh()


def trainer(**options):
    """A quiet trainer."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "devices": 1}
    made = Trainer(**{**quiet, "check_val_every_n_epoch": None, "val_check_interval": 3, **options})
    given = options.get("callbacks", [])
    made.callbacks = [x for x in made.callbacks if x in given or not isinstance(x, LearningCurves)]  # slower than a toy
    return made


def weights(module):
    """All weights and buffers, copied."""
    return {name: value.clone() for name, value in module.state_dict().items()}
