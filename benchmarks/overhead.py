"""Time per step of DTN under the Trainer against the same mathematics in a bare PyTorch loop, interleaved.

    python benchmarks/overhead.py

Writes results/benchmarks/overhead.json; the ratio of the medians over all steps should be at most 1.05. Medians of
single steps, because what else runs on a machine delays some steps and not others.
"""

import itertools
import tempfile
import time
from typing import Any

import pytorch_lightning as pl
import torch
from common import dtn, median, report, small_pair
from torch.nn import functional as F

from xdomain.batch import to_float
from xdomain.data import DomainPair
from xdomain.losses import l_d, l_gang
from xdomain.methods import DTN
from xdomain.running.trainer import Trainer

WARM_UP, STEPS, ROUNDS = 4, 20, 10


class Stopwatch(pl.Callback):
    """When every batch ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.ends.append(time.perf_counter())


def durations(ends: list[float]) -> list[float]:
    """Seconds of every step after the warm-up."""
    return [after - before for before, after in itertools.pairwise(ends[WARM_UP - 1 :])]


def under_the_trainer(data: DomainPair) -> list[float]:
    """Seconds of every step."""
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            run_dir=folder,
            max_steps=WARM_UP + STEPS,
            limit_val_batches=0,
            callbacks=[watch],
            log_every_n_steps=10,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
            devices=1,
        )
        trainer.fit(dtn(data), datamodule=data)
    return durations(watch.ends)


def bare(data: DomainPair, features: dict[str, torch.Tensor]) -> list[float]:
    """Seconds of every step."""
    method: DTN = dtn(data).train()
    d, g = method.build_optimizers().values()
    batches = iter(data.train_dataloader())
    ends: list[float] = []
    for _ in range(WARM_UP + STEPS):
        batch, _, _ = next(batches)
        x_b = to_float(batch["b"].image)
        h_a, h_b = features["a"][batch["a"].position], features["b"][batch["b"].position]
        y_a, y_b = method.g(torch.cat([h_a, h_b])).chunk(2)

        d.zero_grad()
        l_d(method.D(y_a.detach()), method.D(y_b.detach()), method.D(x_b)).backward()
        d.step()

        method.D.requires_grad_(False)
        g.zero_grad()
        loss = l_gang(method.D(y_a), method.D(y_b)) + method.alpha * method.l_const(h_a, y_a)
        (loss + method.beta * F.mse_loss(y_b, x_b)).backward()
        g.step()
        method.D.requires_grad_(True)
        ends.append(time.perf_counter())
    return durations(ends)


def main() -> None:
    """Alternate the two and compare their medians."""
    data = small_pair()
    method = dtn(data).eval()
    with torch.no_grad():
        features = {
            role: torch.cat([method.features(to_float(torch.from_numpy(part))) for part in batches(data, role)])
            for role in data.roles
        }
    rounds = [(under_the_trainer(data), bare(data, features)) for _ in range(ROUNDS)]
    ours, theirs = ([seconds for r in rounds for seconds in r[i]] for i in range(2))
    metrics = {
        "seconds_per_step_trainer": median(ours),
        "seconds_per_step_bare": median(theirs),
        "ratio": round(median(ours) / median(theirs), 6),
        "ratio_of_fastest": round(min(ours) / min(theirs), 6),
    }
    report(
        "overhead",
        metrics,
        against="the same mathematics in a bare PyTorch loop in this code",
        rounds=ROUNDS,
        steps=STEPS,
        batch_size=data.batch_size,
    )


def batches(data: DomainPair, role: str) -> Any:
    """All training images of a role in order."""
    images = data.data(role, "train").images
    return (images[i : i + 250] for i in range(0, len(images), 250))


if __name__ == "__main__":
    main()
