"""Time per step of DTN under the Trainer against the same mathematics in a bare PyTorch loop, interleaved.

    python benchmarks/overhead.py

Writes results/overhead.json; the ratio should be at most 1.05.
"""

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
from xdomain.trainer import Trainer

WARM_UP, STEPS, ROUNDS = 4, 20, 15


class Stopwatch(pl.Callback):
    """Seconds from the end of the warm-up to the end of the last batch."""

    seconds = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == WARM_UP:
            self.seconds = -time.perf_counter()
        elif trainer.global_step == WARM_UP + STEPS:
            self.seconds += time.perf_counter()


def under_the_trainer(data: DomainPair) -> float:
    """Seconds per step."""
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
    return watch.seconds / STEPS


def bare(data: DomainPair, features: dict[str, torch.Tensor]) -> float:
    """Seconds per step."""
    method: DTN = dtn(data).train()
    d, g = method.build_optimizers().values()
    batches = iter(data.train_dataloader())
    start = 0.0
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            start = time.perf_counter()
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
    return (time.perf_counter() - start) / STEPS


def main() -> None:
    """Alternate the two and compare their medians."""
    data = small_pair()
    method = dtn(data).eval()
    with torch.no_grad():
        features = {
            role: torch.cat([method.content(to_float(torch.from_numpy(part))) for part in batches(data, role)])
            for role in data.roles
        }
    rounds = [(under_the_trainer(data), bare(data, features)) for _ in range(ROUNDS)]
    ours, theirs = ([r[i] for r in rounds] for i in range(2))
    ratios = [a / b for a, b in rounds]
    metrics = {
        "seconds_per_step_trainer": median(ours),
        "seconds_per_step_bare": median(theirs),
        "ratio": median(ratios),
        "ratio_of_fastest": round(min(ours) / min(theirs), 6),
    }
    report("overhead", metrics, rounds=ROUNDS, steps=STEPS, batch_size=data.batch_size)


def batches(data: DomainPair, role: str) -> Any:
    """All training images of a role in order."""
    images = data.data(role, "train").images
    return (images[i : i + 250] for i in range(0, len(images), 250))


if __name__ == "__main__":
    main()
