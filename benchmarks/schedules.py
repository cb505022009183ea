"""A training step of the methods of whole domains, against the naive schedule of the same mathematics.

    python benchmarks/schedules.py [METHOD ...] [--rounds N]

Naive: every picture and every feature is made where a loss asks for it, each image domain in a pass of its own, nothing
is frozen: weight gradients are computed for networks that the update leaves alone, and thrown away.

- CycleGAN, with identity loss: six generator passes.
- UNIT: fourteen passes through encoders and decoders; the discriminators' update encodes and decodes for itself, with
  noise of its own.
- CUT: the features that are compared with come from two more passes through the first half of the generator.
- OST, drawing, phase II: every loss encodes for itself; the losses of x reach all weights; D(real) once for each fake.

Here: what `training_step` does. Before anything is measured, the gradients of all updates of a batch are compared in
float64, with equal noise and equal places of patches; they must agree to 1e-6. Then the two schedules alternate batch
by batch in one run. Seconds are CPU time of the process with one thread, so that other programs do not count; the
speed-up is the ratio of the medians. Peak memory is the most that torch's CPU allocator held at once during a step
beyond what it held before, from the events of torch.profiler. Networks and batches are those of the recipes on facades;
images have 64 and 128 pixels. Writes results/benchmarks/schedules.json.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from common import NAIVE_SCHEDULE, median, report
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from xdomain.batch import Batch
from xdomain.data import FacadeWorld, ImageData
from xdomain.losses import lsgan, patch_nce
from xdomain.methods import CUT, OST, UNIT, CycleGAN, Method
from xdomain.networks import DrawingAutoencoders, PatchDiscriminator, ResnetGenerator
from xdomain.running.trainer import Trainer

WARM_UP, ROUNDS = 4, 20
SIZES = (64, 128)
Step = Callable[[Any, Batch], None]


class OneFacade(FacadeWorld):
    """One image of the first domain."""

    def data(self, role: str, split: Any) -> Any:
        found = super().data(role, split)
        return ImageData(found.images[:1]) if role == "a" else found


def minimise(method: Method, name: str, loss: Callable[[], Tensor]) -> None:
    """One update by the named optimiser, nothing frozen."""
    optimizer = method.named_optimizer(name)
    value = loss()
    method.zero_grad()
    value.backward()
    optimizer.step()


def l_pair(D: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """The two terms of a discriminator, each in a pass of its own."""
    return lsgan(D(real), True) + lsgan(D(fake.detach()), False)


def cyclegan(m: CycleGAN, batch: Batch) -> None:
    """The batch of CycleGAN."""
    x, y = batch["a"].image, batch["b"].image
    fakes: list[Tensor] = []

    def generators() -> Tensor:
        fake_y, fake_x = m.G(x), m.F(y)
        fakes.extend((fake_x, fake_y))
        back = F.l1_loss(m.F(fake_y), x) + F.l1_loss(m.G(fake_x), y)
        same = F.l1_loss(m.G(y), y) + F.l1_loss(m.F(x), x)
        gan = lsgan(m.D_Y(fake_y), True) + lsgan(m.D_X(fake_x), True)
        return m.gan * gan + m.cycle * back + m.identity * m.cycle * same

    def discriminators() -> Tensor:
        return (l_pair(m.D_X, x, m.pool_x(fakes[0])) + l_pair(m.D_Y, y, m.pool_y(fakes[1]))) / 2

    minimise(m, "g", generators)
    minimise(m, "d", discriminators)


def noisy(codes: Tensor) -> Tensor:
    """Codes with the noise of training."""
    return codes + torch.randn_like(codes)


def unit(m: UNIT, batch: Batch) -> None:
    """The batch of UNIT."""
    x, y = batch["a"].image, batch["b"].image

    def discriminators() -> Tensor:
        fake_y, fake_x = m.G.decode(noisy(m.G.encode(x, 0)), 1), m.G.decode(noisy(m.G.encode(y, 1)), 0)
        return l_pair(m.D_X, x, fake_x) + l_pair(m.D_Y, y, fake_y)

    def generators() -> Tensor:
        means = [m.G.encode(x, 0), m.G.encode(y, 1)]
        codes = [noisy(mean) for mean in means]
        own = [m.G.decode(codes[0], 0), m.G.decode(codes[1], 1)]
        fake_y, fake_x = m.G.decode(codes[0], 1), m.G.decode(codes[1], 0)
        again = [m.G.encode(fake_y, 1), m.G.encode(fake_x, 0)]
        back = [m.G.decode(noisy(again[0]), 0), m.G.decode(noisy(again[1]), 1)]
        losses = {
            "l_gan": lsgan(m.D_X(fake_x), True) + lsgan(m.D_Y(fake_y), True),
            "l_reconstruction": F.l1_loss(own[0], x) + F.l1_loss(own[1], y),
            "l_cycle": F.l1_loss(back[0], x) + F.l1_loss(back[1], y),
            "l_kl": torch.stack([code.square().mean() for code in (*means, *again)]).sum(),
        }
        return torch.stack([m.weights[name] * loss for name, loss in losses.items()]).sum()

    minimise(m, "d", discriminators)
    minimise(m, "g", generators)


def cut(m: CUT, batch: Batch) -> None:
    """The batch of CUT."""
    x, y = batch["a"].image, batch["b"].image
    fake, same = m.G(x), m.G(y)

    def nce(images: Tensor, outputs: Tensor) -> Tensor:
        queries, keys = m.G.maps(outputs, m.layers), m.G.maps(images, m.layers)
        places = m.H.draw(keys)
        pairs = zip(m.H(queries, places), m.H(keys, places), strict=True)
        return torch.stack([patch_nce(q, k, m.temperature) for q, k in pairs]).mean()

    minimise(m, "d", lambda: l_pair(m.D, y, fake) / 2)
    minimise(m, "g", lambda: m.gan * lsgan(m.D(fake), True) + m.nce * (nce(x, fake) + nce(y, same)) / 2)


def ost(m: OST, batch: Batch) -> None:
    """The batch of OST's phase II."""
    x, y = batch["a"].image, batch["b"].image
    fakes: list[Tensor] = []

    def of_x() -> Tensor:
        xx, xy = m.G.decode(m.G.encode(x, 0), 0), m.G.decode(m.G.encode(x, 0), 1)
        fakes.append(xy)
        back = m.G.decode(m.G.encode(xy, 1), 0)
        return lsgan(m.D_Y(xy), True) + m.distance(xx, x) + m.cycle_weight * m.distance(back, x)

    def of_y() -> Tensor:
        yy = m.G.decode(m.G.encode(y, 1), 1)
        fakes.append(yy)
        return lsgan(m.D_Y(yy), True) + m.distance(yy, y) + 0.1 * m.G.encode(y, 1).square().mean()

    minimise(m, "x", of_x)
    minimise(m, "y", of_y)
    pooled = [m.pool(fake) for fake in fakes]
    minimise(m, "d", lambda: torch.stack([l_pair(m.D_Y, y, fake) / 2 for fake in pooled]).sum())


NAIVE: dict[str, Step] = {"CycleGAN": cyclegan, "UNIT": unit, "CUT": cut, "OST": ost}


def build(name: str, size: int) -> tuple[Method, FacadeWorld]:
    """A method and its data, of the sizes of its recipe on facades."""
    torch.manual_seed(0)
    kind = OneFacade if name == "OST" else FacadeWorld
    batch_size = 1 if name == "OST" else 2
    data = kind(image_size=size, train_size=16, val_size=1, test_size=1, batch_size=batch_size)
    facts = {"domains": data.domains, "channels": data.channels, "image_size": data.image_size}
    discriminator = partial(PatchDiscriminator, width=16, layers=2)
    methods: dict[str, Callable[[], Method]] = {
        "CycleGAN": lambda: CycleGAN(partial(ResnetGenerator, width=16, blocks=4), discriminator, **facts),
        "UNIT": lambda: UNIT(16, 2, discriminator=discriminator, **facts),
        "CUT": lambda: CUT(16, 4, discriminator, layers=(0, 4, 8, 12, 14), patches=64, features=64, **facts),
        "OST": lambda: OST(
            partial(DrawingAutoencoders, width=16, blocks=2), discriminator, autoencoder_steps=1, steps=10**6, **facts
        ),
    }
    return methods[name](), data


def fit(method: Method, data: FacadeWorld, step: Step, batches: int) -> None:
    """Train with another training step."""
    method.training_step = lambda batch, batch_idx: step(method, batch)  # type: ignore[method-assign]  # noqa: ARG005
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, XDOMAIN_CACHE=folder):  # with phase I of OST
        trainer = Trainer(
            run_dir=folder, max_steps=batches, max_epochs=-1, limit_val_batches=0, accelerator="cpu", devices=1, **quiet
        )
        trainer.fit(method, datamodule=data)


def own(kind: type[Method]) -> Step:
    """The training step of a method."""
    return lambda method, batch: kind.training_step(method, batch, 0)


class Recorder:
    """A training step that keeps the gradients of every update; the first batch is left to the method."""

    def __init__(self, method: Method, step: Step) -> None:
        self.step, self.first, self.batches = step, own(type(method)), 0
        self.found: list[dict[str, Tensor]] = []

    def __call__(self, method: Any, batch: Batch) -> None:
        self.batches += 1
        if self.batches == 1:
            self.first(method, batch)
            return
        for name in method.build_optimizers():
            method.named_optimizer(name).register_step_pre_hook(partial(self.keep, method))
        self.step(method, batch)

    def keep(self, method: Method, optimizer: Any, *_: Any) -> None:
        """What an optimiser is about to use."""
        names = {id(p): name for name, p in method.named_parameters()}
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.found.append({names[id(p)]: p.grad.clone() for p in parameters if p.grad is not None})


@contextmanager
def same_draws() -> Iterator[None]:
    """Noise and places depend on nothing but their size."""

    def randn_like(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)

    def randperm(count: int, **_: Any) -> Tensor:
        order: Tensor = torch.rand(count, generator=torch.Generator().manual_seed(0)).argsort()
        return order

    with patch("torch.randn_like", randn_like), patch("torch.randperm", randperm):
        yield


def gradient_gap(name: str) -> float:
    """The largest difference of the gradients of both schedules, in float64."""
    found = []
    for naive in (False, True):
        method, data = build(name, 32)
        method.double()
        transferred = data.on_after_batch_transfer

        def doubled(batch: Any, index: int, transferred: Any = transferred) -> Batch:
            batch = transferred(batch, index)
            return {role: sample._replace(image=sample.image.double()) for role, sample in batch.items()}

        data.on_after_batch_transfer = doubled  # type: ignore[method-assign]
        recorder = Recorder(method, NAIVE[name] if naive else own(type(method)))
        with same_draws():
            fit(method, data, recorder, 2)
        found.append(recorder.found)
    gap, largest = 0.0, 0.0
    for ours, theirs in zip(*found, strict=True):
        for key, gradient in ours.items():
            gap = max(gap, float((gradient - theirs[key]).abs().max()))
            largest = max(largest, float(gradient.abs().max()))
    if gap > 1e-6 or largest < 1e-3:
        raise SystemExit(f"{name}: gradients of up to {largest:.2g} differ by up to {gap:.2g}")
    return gap


def peak_of(run: Callable[[], None]) -> float:
    """MiB that torch's CPU allocator held at most during a call, beyond what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watch:
        run()
    assert watch.profiler is not None
    events = [event for event in watch.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most / 2**20


def measure(name: str, size: int, rounds: int) -> tuple[dict[bool, list[float]], dict[bool, float]]:
    """CPU seconds of steps by the naive schedule and by ours, which take turns; peak memory in MiB of one of each."""
    method, data = build(name, size)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    peaks: dict[bool, float] = {}
    steps = {True: NAIVE[name], False: own(type(method))}
    done = 0

    def step(method: Any, batch: Batch) -> None:
        nonlocal done
        naive = done % 2 == 1 and done > 1  # the first batch may be of another phase
        start = time.process_time()
        if done >= WARM_UP + 2 * rounds:
            peaks[naive] = peak_of(lambda: steps[naive](method, batch))
        else:
            steps[naive](method, batch)
        if WARM_UP <= done < WARM_UP + 2 * rounds:
            seconds[naive].append(time.process_time() - start)
        method.zero_grad()
        done += 1

    fit(method, data, step, WARM_UP + 2 * rounds + 2)
    return seconds, peaks


def main() -> None:
    """Compare the gradients, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", default=list(NAIVE))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    metrics = {}
    for name in options.methods:
        metrics[f"largest_gradient_difference/{name}"] = gradient_gap(name)
        for size in SIZES:
            seconds, peaks = measure(name, size, options.rounds)
            for naive, word in ((True, "naive"), (False, "shared")):
                metrics[f"seconds_{word}/{name}_{size}"] = median(seconds[naive])
                metrics[f"peak_mib_{word}/{name}_{size}"] = round(peaks[naive], 2)
            metrics[f"speed_up/{name}_{size}"] = round(median(seconds[True]) / median(seconds[False]), 4)
    report("schedules", metrics, against=NAIVE_SCHEDULE, rounds=options.rounds, threads=1)


if __name__ == "__main__":
    main()
