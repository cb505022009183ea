"""Image grids of a run: translations of a fixed batch."""

from pathlib import Path

import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor
from torchvision.utils import make_grid

from xdomain.batch import to_channels, to_float, to_uint8
from xdomain.callbacks.evaluation import check_translates_alone
from xdomain.data.base import BaseDataModule, Split
from xdomain.files import whole_file
from xdomain.methods.base import Method
from xdomain.running.folder import run_dir


def save_png(image: Tensor, path: Path) -> None:
    """Write a ``uint8`` image [3, H, W] as PNG, atomically."""
    with whole_file(path) as file:
        Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).save(file, format="PNG")


def log_image(trainer: pl.Trainer, key: str, image: Tensor) -> None:
    """Log a ``uint8`` image [3, H, W] to every logger that supports images (W&B, TensorBoard)."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(key, [image.permute(1, 2, 0).cpu().numpy()], step=trainer.global_step)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(key, image, trainer.global_step)


class SampleGrid(pl.Callback):
    """Translations of the same images at every validation and in the test, as ``samples/*.png`` and in the loggers.

    Two rows per direction: the inputs, and below them their translations.

    Args:
        count: number of images per direction.
        directions: pairs (source, target) of domain names; by default first to last and last to last, as far as the
            method translates them.
    """

    def __init__(self, count: int = 16, directions: list[tuple[str, str]] | None = None) -> None:
        self.count, self.directions = count, directions

    @torch.no_grad()
    def grid(self, datamodule: BaseDataModule, module: Method, testing: bool) -> Tensor:
        """The grid, ``uint8`` [3, H, W]; what is random in translations is the same in every grid."""
        rows = []
        for source, target in self._directions(module):
            data = datamodule.data(datamodule.role_of(source), "test" if testing else "val")
            images = to_float(data.__getitems__(list(range(min(self.count, len(data))))).image.to(module.device))
            with torch.random.fork_rng(devices=[module.device] if module.device.type == "cuda" else []):
                torch.manual_seed(0)
                made = module.translate(images, source, target)
            rows += [to_channels(images, 3), to_channels(made, 3)]
        columns = max(map(len, rows))  # with fewer images the end of the rows stays white
        full = [torch.cat([row, row.new_ones(columns - len(row), *row.shape[1:])]) for row in rows]
        picture: Tensor = make_grid(to_uint8(torch.cat(full)), nrow=columns, padding=1)
        return picture

    def _directions(self, module: Method) -> list[tuple[str, str]]:
        last = module.domains[-1]
        return self.directions or [d for d in ((module.domains[0], last), (last, last)) if d in module.directions]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse impossible settings before the first batch."""
        if stage == "predict" or not isinstance(pl_module, Method):
            return
        for direction in self._directions(pl_module):
            for domain in direction:
                pl_module.data.role_of(domain)
            check_translates_alone(self, pl_module, direction)

    def _show(self, trainer: pl.Trainer, module: pl.LightningModule, name: str, testing: bool) -> None:
        folder = run_dir(trainer)
        if not trainer.is_global_zero or trainer.sanity_checking or folder is None:
            return
        assert isinstance(module, Method)
        image = self.grid(module.data, module, testing)
        save_png(image, folder / "samples" / f"{name}.png")
        log_image(trainer, "samples", image)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._show(trainer, pl_module, f"step_{trainer.global_step:07d}", testing=False)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._show(trainer, pl_module, "test", testing=True)


class NamedPictures(pl.Callback):
    """Base class of image grids with names, at every validation and in the test, in ``samples`` and in the loggers."""

    def pictures(self, module: Method, split: Split) -> dict[str, Tensor]:
        """All image grids by name, ``uint8`` [3, H, W]."""
        raise NotImplementedError(f"{type(self).__name__} must implement pictures()")

    def file(self, name: str, when: str) -> str:
        """The file of a grid; ``when`` is the step or ``test``."""
        return f"{name}_{when}.png"

    @torch.no_grad()
    def _show(self, trainer: pl.Trainer, module: pl.LightningModule, split: Split, when: str) -> None:
        folder = run_dir(trainer)
        if not trainer.is_global_zero or trainer.sanity_checking or folder is None:
            return
        assert isinstance(module, Method)
        for name, picture in self.pictures(module, split).items():
            save_png(picture, folder / "samples" / self.file(name, when))
            log_image(trainer, name, picture)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._show(trainer, pl_module, "val", f"{trainer.global_step:07d}")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._show(trainer, pl_module, "test", "test")


def grid_of(images: Tensor, columns: int) -> Tensor:
    """A grid, ``uint8`` [3, H, W], of images [N, C, h, w] in [-1, 1], row by row."""
    picture: Tensor = make_grid(to_uint8(to_channels(images, 3)), nrow=columns, padding=1)
    return picture
