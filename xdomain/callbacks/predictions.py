"""Writing what ``predict`` returns."""

from typing import Any

import pytorch_lightning as pl

from xdomain.batch import Sample, to_channels
from xdomain.callbacks.pictures import save_png
from xdomain.running.folder import run_dir


class PredictionWriter(pl.Callback):
    """Writes every predicted image as ``predictions/<position in the data set>.png`` in the run folder."""

    def on_predict_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        folder = run_dir(trainer)
        if isinstance(outputs, Sample) and folder is not None:
            for image, position in zip(to_channels(outputs.image, 3), outputs.position.tolist(), strict=True):
                save_png(image, folder / "predictions" / f"{position:06d}.png")
