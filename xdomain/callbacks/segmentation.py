"""Evaluation of segmentation in both domains, and pictures of it."""

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.utils import make_grid

from xdomain.batch import UNKNOWN, Batch, to_channels, to_float, to_uint8
from xdomain.callbacks.evaluation import BatchEvaluation
from xdomain.callbacks.pictures import SampleGrid
from xdomain.data.base import BaseDataModule, Split
from xdomain.errors import UserError
from xdomain.methods import FADA, Method
from xdomain.metrics.segmentation import SegmentationScores


class SegmentationAccuracy(BatchEvaluation):
    """Is the class of every pixel right? One confusion matrix for each domain whose images have label maps.

    D is a domain, C a class.

    ========================  ======================================================================================
    ``miou/D``                intersection over union, mean over the classes of the truth
    ``iou_C/D``               that of a class of the truth
    ``pixel_accuracy/D``      share of pixels with the right class
    ``class_accuracy/D``      the same for every class of the truth, mean
    ``..._largest/D``         miou and pixel_accuracy of the most frequent class of the truth everywhere
    ========================  ======================================================================================

    Pixels whose class is unknown are left out. The test has all of them, a validation only the first three.
    """

    def check(self, module: Method, split: Split) -> None:
        if not isinstance(module, FADA):
            raise UserError(f"SegmentationAccuracy judges labels, but {type(module).__name__} gives none: remove it.")

    def begin(self, trainer: pl.Trainer, module: Method) -> None:
        self._scores: dict[str, SegmentationScores] = {}
        if module.data.pixel_classes:
            count = len(module.data.pixel_classes)
            self._scores = {domain: SegmentationScores(count).to(module.device) for domain in module.domains}

    @torch.no_grad()
    def add(self, module: Method, batch: Batch, testing: bool) -> None:
        for role, domain in zip(module.data.roles, module.domains, strict=True):
            sample = batch.get(role)
            if sample is not None and sample.label_map is not None:
                self._scores[domain].update(module(sample.image).argmax(1), sample.label_map)

    def report(self, trainer: pl.Trainer, testing: bool) -> dict[str, Tensor]:
        names = trainer.datamodule.pixel_classes  # type: ignore[attr-defined]
        values: dict[str, Tensor] = {}
        for domain, metric in self._scores.items():
            found = metric.compute()
            if found["pixel_accuracy"].isnan():
                continue
            pairs = zip(names, metric.iou(), strict=True)
            values[f"miou/{domain}"] = found["miou"]
            values |= {f"iou_{name}/{domain}": value for name, value in pairs if not value.isnan()}
            values[f"pixel_accuracy/{domain}"] = found["pixel_accuracy"]
            if testing:
                values[f"class_accuracy/{domain}"] = found["class_accuracy"]
                largest = metric.largest()
                values |= {f"{name}_largest/{domain}": largest[name] for name in ("miou", "pixel_accuracy")}
        return values


class SegmentationGrid(SampleGrid):
    """Label maps of the same images at every validation and in the test, as ``samples/*.png`` and in the loggers.

    Three rows per domain: the images, the true label maps (black if unknown), and those that are found; all in the size
    of the first domain.

    Args:
        count: number of images per domain.
    """

    def __init__(self, count: int = 16) -> None:
        super().__init__(count)

    @torch.no_grad()
    def grid(self, datamodule: BaseDataModule, module: Method, testing: bool) -> Tensor:
        assert isinstance(module, FADA)
        rows = []
        for role in datamodule.roles:
            data = datamodule.data(role, "test" if testing else "val")
            sample = data.__getitems__(list(range(min(self.count, len(data)))))
            images = to_float(sample.image.to(module.device))
            truth = torch.full_like(images[:, 0], UNKNOWN) if sample.label_map is None else sample.label_map
            rows += [to_channels(images, 3), module.painted(truth.to(module.device)), module.segment(images)]
        size = rows[0].shape[-2:]
        rows = [row if row.shape[-2:] == size else interpolate(row, size, mode="nearest-exact") for row in rows]
        columns = max(map(len, rows))
        full = [torch.cat([row, row.new_ones(columns - len(row), *row.shape[1:])]) for row in rows]
        picture: Tensor = make_grid(to_uint8(torch.cat(full)), nrow=columns, padding=1)
        return picture

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse methods that find no label maps before the first batch."""
        if stage != "predict" and not isinstance(pl_module, FADA):
            raise UserError(f"SegmentationGrid shows label maps, but {type(pl_module).__name__} finds none: remove it.")
