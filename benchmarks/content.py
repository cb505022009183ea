"""A training step of DIDD and of MaskedTransfer at 128x128 against the naive schedule of the same mathematics.

    python benchmarks/content.py

Naive: every image through every network where the losses ask for it, d trained on codes that E computes again with
gradients, which are thrown away, and d's weight gradients in E's update. Here: what `training_step` does. Reference
widths, batch 8. Every measurement runs in a process of its own, the two schedules in turn; writes
results/benchmarks/content_sharing.json. The speed-up should be at least 1.2 for DIDD and 1.3 for MaskedTransfer.
"""

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from common import NAIVE_SCHEDULE, median, report
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.data import BaseDataModule, ImageData
from xdomain.losses import l_domain
from xdomain.methods import DIDD, ContentMethod, MaskedTransfer
from xdomain.methods.masked import blend
from xdomain.running.trainer import Trainer

BATCH, SIZE, STEPS, ROUNDS = 8, 128, 4, 4


class Noise(BaseDataModule):
    """Images that cost nothing to make."""

    domains, channels, image_size = ("plus", "plain"), (3, 3), SIZE

    def data(self, role: str, split: str) -> ImageData:
        """The images of a role."""
        return ImageData(np.random.default_rng(0).integers(0, 256, (8 * BATCH, 3, SIZE, SIZE), dtype=np.uint8))


def build(kind: type[ContentMethod]) -> ContentMethod:
    """A method at the reference architecture."""
    torch.manual_seed(0)
    return kind(domains=Noise.domains, channels=Noise.channels, image_size=SIZE)


def didd_losses(m: DIDD, a: Tensor, b: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    """The loss of encoders and decoder, and what makes that of d."""
    c_a, c_b, empty = m.E_c(a), m.E_c(b), a.new_zeros(len(a), m.E_a.dim)
    y_a = m.G(torch.cat([c_a, m.E_a(a), empty], 1)).tanh()
    y_b = m.G(torch.cat([c_b, empty, m.E_b(b)], 1)).tanh()
    loss = F.l1_loss(y_a, a) + F.l1_loss(y_b, b) + m.E_a(b).abs().mean() + m.E_b(a).abs().mean()
    loss = loss + m.weights["l_confuse"] * l_domain(m.d(c_a), m.d(c_b), 1, 1)
    return loss, lambda: l_domain(m.d(m.E_c(a)), m.d(m.E_c(b)), 0, 1)


def masked_losses(m: MaskedTransfer, p: Tensor, n: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    """The loss of encoders and decoders, and what makes that of d."""
    c_p, s_p, c_n = m.E_1(p), m.E_2(p), m.E_1(n)
    t = blend(*m.layer(c_n, s_p), n)
    loss = m.weights["l_plus"] * F.l1_loss(blend(*m.layer(c_p, s_p), m.plain(c_p)), p) + m.weights[
        "l_plain"
    ] * F.l1_loss(m.plain(c_n), n)
    loss = loss + m.weights["l_plus_kept"] * F.l1_loss(blend(*m.layer(c_p, s_p), p), p)
    loss = loss + m.weights["l_plain_kept"] * F.l1_loss(blend(*m.layer(c_n, torch.zeros_like(s_p)), n), n)
    loss = (
        loss
        + m.weights["l_cycle_common"] * F.mse_loss(m.E_1(t), c_n)
        + m.weights["l_cycle_content"] * F.mse_loss(m.E_2(t), s_p)
    )
    loss = loss + m.weights["l_confuse"] * l_domain(m.d(c_p), m.d(c_n), 0, 0)
    return loss, lambda: l_domain(m.d(m.E_1(p)), m.d(m.E_1(n)), 1, 0)


LOSSES: dict[type[ContentMethod], Any] = {DIDD: didd_losses, MaskedTransfer: masked_losses}


def naive(kind: type[ContentMethod]) -> list[float]:
    """Seconds of every step."""
    method = build(kind).train()
    g, d = method.build_optimizers().values()
    own = [[p for group in o.param_groups for p in group["params"]] for o in (g, d)]
    batch = torch.rand(2, BATCH, 3, SIZE, SIZE) * 2 - 1
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        loss, discriminator_loss = LOSSES[kind](method, *batch)
        update(g, own[0], loss)
        update(d, own[1], discriminator_loss())
        times.append(time.perf_counter() - start)
    return times


def update(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], loss: Tensor) -> None:
    """One update of the weights."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 5.0)
    optimizer.step()


class Stopwatch(pl.Callback):
    """Seconds of every step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        self.times.append(time.perf_counter() - self.start)


def shared(kind: type[ContentMethod]) -> list[float]:
    """Seconds of every step under the Trainer."""
    watch = Stopwatch()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "devices": 1}
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(run_dir=folder, max_steps=STEPS, limit_val_batches=0, callbacks=[watch], **quiet)
        trainer.fit(build(kind), datamodule=Noise(batch_size=BATCH))
    return watch.times


def measure(job: tuple[Callable[..., list[float]], type[ContentMethod]]) -> tuple[list[float], float]:
    """Seconds of every step but the first, and what the peak of memory grew by, in MiB."""
    schedule, kind = job
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = schedule(kind)[1:]
    return times, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    """Measure both methods under both schedules."""
    metrics = {}
    for kind in LOSSES:
        times: dict[str, list[float]] = {"naive": [], "shared": []}
        peaks: dict[str, list[float]] = {"naive": [], "shared": []}
        for _ in range(ROUNDS):
            for schedule in (naive, shared):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    seconds, peak = pool.map(measure, [(schedule, kind)])[0]
                times[schedule.__name__] += seconds
                peaks[schedule.__name__].append(peak)
        name = kind.__name__
        for schedule_name in ("naive", "shared"):
            metrics[f"seconds_{schedule_name}/{name}"] = median(times[schedule_name])
            metrics[f"peak_mib_{schedule_name}/{name}"] = median(peaks[schedule_name])
        metrics[f"speed_up/{name}"] = round(median(times["naive"]) / median(times["shared"]), 6)
    report(
        "content_sharing",
        metrics,
        against=NAIVE_SCHEDULE,
        rounds=ROUNDS,
        steps=STEPS,
        batch_size=BATCH,
        image_size=SIZE,
    )


if __name__ == "__main__":
    main()
