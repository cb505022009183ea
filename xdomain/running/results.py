"""What ``test`` leaves behind: a table on the screen and a JSON file in the run folder."""

from typing import TYPE_CHECKING

import pytorch_lightning as pl

from xdomain.running.folder import facts_of, git_commit, hardware, run_dir, write_json
from xdomain.running.publishing import RESULTS, changed

if TYPE_CHECKING:
    from xdomain.running.trainer import Trainer


class Results(pl.Callback):
    """Prints the test metrics and writes ``results.json`` in the run folder; ``publish`` takes it from there.

    The file holds ``recipe``, ``metrics`` (name to number), ``seed``, ``commit``, ``hardware``, ``wall_seconds`` of the
    training, ``commit_test``, the commit of the test, and ``overrides``, the settings that were changed on the command
    line of training or test.
    """

    def on_test_end(self, trainer: "Trainer", pl_module: pl.LightningModule) -> None:  # type: ignore[override]
        folder = run_dir(trainer)
        if not trainer.is_global_zero:
            return
        metrics = {name: rounded(float(value)) for name, value in trainer.callback_metrics.items()}
        print(table(metrics))
        if folder is None:
            return
        run, commit = facts_of(folder), git_commit()
        result = {
            "recipe": trainer.recipe,
            "metrics": metrics,
            "seed": run.get("seed", trainer.seed),
            "commit": run.get("commit", commit),
            "commit_test": commit,
            "hardware": run.get("hardware", hardware()),
            "wall_seconds": run.get("wall_seconds"),
            "steps": run.get("steps"),
            "overrides": {**run.get("overrides", {}), **trainer.overrides},
        }
        target = folder / RESULTS
        write_json(target, result)
        print(f"numbers:  {target}\npictures: {folder / 'samples'}")
        print(f"run:      {folder}{changed(result['overrides'])}")


def rounded(value: float) -> float:
    """Six decimals, and of small numbers six figures."""
    return round(value, 6) if abs(value) >= 0.1 else float(f"{value:.6g}")


def table(metrics: dict[str, float]) -> str:
    """Metrics as two aligned columns."""
    width = max((len(name) for name in metrics), default=0)
    return "\n".join(f"{name:<{width}}  {_aligned(value)}" for name, value in metrics.items())


def _aligned(value: float) -> str:
    """Ten characters; what four decimals cannot show as a power of ten."""
    return f"{value:10.1e}" if 0 < abs(value) < 5e-5 else f"{value:10.4f}".replace(".0000", "     ")
