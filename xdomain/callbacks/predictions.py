"""Writes the output of ``predict``."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from xdomain.batch import Sample
from xdomain.callbacks.evaluation import method_of
from xdomain.data.images import write_image
from xdomain.data.video import write_video
from xdomain.running.folder import run_dir


class PredictionWriter(pl.Callback):
    """Writes every predicted image below ``predictions`` in the run folder; ``xdomain predict`` always does.

    A prediction has the relative path of its image's file. Without files, the name is the position in the data set,
    such as ``000007.png``; clips become ``.gif``.
    """

    def on_predict_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        folder = run_dir(trainer)
        if not isinstance(outputs, Sample) or folder is None:
            return
        images = method_of(pl_module).data.data("a", "test")
        for picture, position in zip(outputs.image, outputs.position.tolist(), strict=True):
            name = images.file(position) or Path(f"{position:06d}.png")
            # a list may name files elsewhere; their predictions stay below the folder
            inside = [part for part in name.parts if part not in (name.anchor, "..")]
            _write(picture, (folder / "predictions").joinpath(*inside))


def _write(picture: Tensor, path: Path) -> None:
    if picture.ndim == 3:
        write_image(picture, path)
    else:
        write_video(picture.transpose(0, 1), path.with_suffix(".gif"))
