"""Writing what ``predict`` returns."""

from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from xdomain.batch import Sample, to_channels
from xdomain.callbacks.pictures import save_png

if TYPE_CHECKING:
    from xdomain.running.trainer import Trainer


class PredictionWriter(pl.Callback):
    """Writes every predicted image as ``predictions/<position in the data set>.png`` in the run folder."""

    def on_predict_batch_end(  # type: ignore[override]
        self, trainer: "Trainer", pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        if isinstance(outputs, Sample):
            for image, position in zip(to_channels(outputs.image, 3), outputs.position.tolist(), strict=True):
                save_png(image, trainer.run_dir / "predictions" / f"{position:06d}.png")
