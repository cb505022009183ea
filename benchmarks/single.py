"""A training iteration at the finest scale of methods that learn from one sample, against the naive schedule.

    python benchmarks/single.py [METHOD ...]

Naive: the same mathematics, every picture made where a loss asks for it: the finished scales run again for every
update, with gradients that nobody uses, reconstructions included; the discriminators' weight gradients are computed in
the generators' updates; every term has a backward pass of its own; 3D convolutions are torch's. Here: what
`training_step` does. The sizes are those of the tiny recipes. Every measurement runs in a process of its own, the two
schedules in turn; writes results/benchmarks/single_sharing.json. The speed-up should be at least 1.5 for SinGAN, 2 for
structural analogy and 3 for the patch VAE-GAN on clips, with no more memory.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from common import NAIVE_SCHEDULE, median, report
from torch import Tensor, nn
from torch.nn import functional as F

import xdomain.data
import xdomain.methods
from xdomain.batch import Batch
from xdomain.discover import find_config
from xdomain.losses import gradient_penalty
from xdomain.methods import PatchVAEGAN, PyramidMethod, SinGAN, StructuralAnalogy
from xdomain.methods.patch_vaegan import draw
from xdomain.methods.structural_analogy import same_size
from xdomain.networks.patches import Conv3d
from xdomain.networks.pyramid import resize
from xdomain.running.trainer import Trainer

RECIPES = {
    "SinGAN": "singan_tiny",
    "StructuralAnalogy": "structural_analogy_tiny",
    "PatchVAEGAN": "patch_vaegan_video_tiny",
}
STEPS, ROUNDS = 6, 4


def build(name: str) -> tuple[PyramidMethod, Any]:
    """A method and its data as in its tiny recipe."""
    recipe = yaml.safe_load(find_config(f"{RECIPES[name]}.yaml").read_text())
    torch.manual_seed(0)
    data = getattr(xdomain.data, recipe["data"]["class_path"])(**recipe["data"]["init_args"])
    settings = {k: v for k, v in recipe["model"]["init_args"].items() if "optimizer" not in k}
    facts = {key: getattr(data, key) for key in ("domains", "channels", "image_size", "shapes")}
    method = getattr(xdomain.methods, recipe["model"]["class_path"])(**facts, **settings)
    return method, data


def at_the_finest(method: PyramidMethod) -> None:
    """Let training begin where the last scale begins."""
    method.place = lambda step: (method.scales - 1, step + 1)  # type: ignore[method-assign]


class Begin(pl.Callback):
    """Begins all scales before the first batch, and measures the seconds of every step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, *_: Any) -> None:
        assert isinstance(pl_module, PyramidMethod)
        if not self.times:
            for scale in range(pl_module.scales):
                pl_module.begin_scale(scale, batch)
                pl_module.begun.fill_(scale + 1)
        self.start = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        self.times.append(time.perf_counter() - self.start)


def fit(name: str, step: Callable[[Any, Any], None] | None) -> list[float]:
    """Seconds of every step under the Trainer, of the method's own or of another training step."""
    method, data = build(name)
    at_the_finest(method)
    if step is not None:
        Conv3d.forward = nn.Conv3d.forward  # type: ignore[method-assign]
        method.training_step = lambda batch, batch_idx: step(method, batch)  # type: ignore[method-assign]  # noqa: ARG005 - called by name
    watch = Begin()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "devices": 1}
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            run_dir=folder, max_steps=STEPS, max_epochs=-1, limit_val_batches=0, callbacks=[watch], **quiet
        )
        trainer.fit(method, datamodule=data)
    return watch.times


def minimise(method: PyramidMethod, name: str, *losses: Callable[[], Tensor]) -> None:
    """One update by the named optimiser, a backward pass for every term, nothing frozen."""
    optimizer = method.named_optimizer(name)
    optimizer.zero_grad()
    for loss in losses:
        loss().backward()
    optimizer.step()


def critic_terms(D: nn.Module, x: Tensor, y: Tensor, penalty: float) -> list[Callable[[], Tensor]]:
    """The terms of the critic's loss."""
    return [lambda: -D(x).mean(), lambda: D(y.detach()).mean(), lambda: penalty * gradient_penalty(D, *same_size(x, y))]


def singan(m: SinGAN, _: Batch) -> None:
    """The batch of SinGAN."""
    n = m.scale
    m._settle(n)
    G, D, x = m.G[n], m.D[n], m.real(n)

    def below(random: bool) -> Tensor:
        y = torch.zeros(1, 3, *m.sizes[0])
        for i in range(n):
            z = m.draw(i, 1) if random else m.z_star.expand(-1, 3, -1, -1) if i == 0 else torch.zeros(1, 3, *m.sizes[i])
            y = m.G[i](z, resize(y, m.sizes[i]))
        return resize(y, m.sizes[n])

    z = m.draw(n, 1)
    for _ in range(m.d_steps):
        minimise(m, f"d{n}", *critic_terms(D, x, G(z, below(random=True)), m.penalty))
    for _ in range(m.g_steps):
        minimise(
            m,
            f"g{n}",
            lambda: -D(G(z, below(random=True))).mean(),
            lambda: m.alpha * F.mse_loss(G(torch.zeros_like(x), below(random=False)), x),
        )


def analogy(m: StructuralAnalogy, batch: Batch) -> None:
    """The batch of StructuralAnalogy."""
    n = m.scale
    G, D = {role: m.G[role][n] for role in "ab"}, {"a": m.D_a[n], "b": m.D_b[n]}
    r = {role: m.reals(role, batch, n) for role in "ab"}

    def climb(role: str, y: Tensor, noisy: bool) -> Tensor:
        for i in range(n):
            y = m.G[role][i](*(m.noisy(role, i, y) if noisy else (y, y)))
            y = resize(y, m.sizes[role][i + 1])
        return y

    def f(role: str) -> Tensor:
        return G[role](*m.noisy(role, n, climb(role, torch.zeros(1, 3, *m.sizes[role][0]), noisy=True)))

    def m_of(role: str) -> Tensor:
        other = f("b" if role == "a" else "a")
        return G[role](other, other)

    def rec(role: str) -> Tensor:
        y = climb(role, m.z_star_a if role == "a" else m.z_star_b, noisy=False)
        return m.alpha * F.mse_loss(G[role](y, y), r[role])

    def cycle(role: str) -> Tensor:
        start = f(role)
        there = G["b" if role == "a" else "a"](start, start)
        return m.beta * F.mse_loss(G[role](there, there), start)

    terms = []
    for role in "ab":
        for fake in (f, m_of):
            terms += critic_terms(D[role], r[role], fake(role), m.penalty)
    minimise(m, f"d{n}", *terms)
    losses: list[Callable[[], Tensor]] = []
    for role, weight in (("a", 1.0), ("b", m.lambda_g)):
        losses += [partial(_disliked, D[role], fake, role, weight) for fake in (f, m_of)]
        losses += [partial(rec, role), partial(cycle, role)]
    minimise(m, f"g{n}", *losses)


def _disliked(D: nn.Module, fake: Callable[[str], Tensor], role: str, weight: float) -> Tensor:
    return -weight * D(fake(role)).mean()


def patch_vaegan(m: PatchVAEGAN, batch: Batch) -> None:
    """The batch of PatchVAEGAN."""
    n, count = m.scale, len(batch["a"].image)
    D, x = m.D[str(n)], m.real(n)

    def random() -> Tensor:
        return m.climb(m.decode(m.latents(count)), 1, n, count)

    def rec() -> Tensor:
        mu, logvar = m.E(m.real(0))
        y = m.climb(m.decode(draw(mu, logvar, count)), 1, n)
        return m.alpha * F.mse_loss(y, x.expand_as(y))

    minimise(m, f"d{n}", *critic_terms(D, x, random(), m.penalty))
    minimise(m, f"g{n}", lambda: -D(random()).mean(), rec)


NAIVE: dict[str, Callable[[Any, Batch], None]] = {
    "SinGAN": singan,
    "StructuralAnalogy": analogy,
    "PatchVAEGAN": patch_vaegan,
}


def measure(job: tuple[str, bool]) -> tuple[list[float], float]:
    """Seconds of every step but the first two, and what the peak of memory grew by, in MiB."""
    name, naive = job
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = fit(name, NAIVE[name] if naive else None)[2:]
    return times, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    """Measure all methods under both schedules."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", default=list(NAIVE))
    metrics = {}
    for name in parser.parse_args().methods:
        times: dict[bool, list[float]] = {True: [], False: []}
        peaks: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(ROUNDS):
            for naive in (True, False):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    seconds, peak = pool.map(measure, [(name, naive)])[0]
                times[naive] += seconds
                peaks[naive].append(peak)
        for naive, word in ((True, "naive"), (False, "shared")):
            metrics[f"seconds_{word}/{name}"] = median(times[naive])
            metrics[f"peak_mib_{word}/{name}"] = median(peaks[naive])
        metrics[f"speed_up/{name}"] = round(median(times[True]) / median(times[False]), 6)
    report("single_sharing", metrics, against=NAIVE_SCHEDULE, rounds=ROUNDS, steps=STEPS)


if __name__ == "__main__":
    main()
