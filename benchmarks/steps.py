"""What a training step costs at the published architectures, before and after, and what it is spent on.

    python benchmarks/steps.py [METHOD ...] [--rounds N]

Networks, weights of the losses and optimisers are the methods' defaults. Methods of whole domains learn from noise of
128x128 pixels, eight images per domain; methods of a single sample from the data of their recipes, in the middle of
their pyramid, since a step of the finest scale takes minutes on one core.

Before: the same step with torch's convolutions for all maps, torch's formula of the spectral norm, and an Adam that
takes every operation over every weight by itself. The two take turns in one run. Seconds are CPU time of the process
with one thread, so that other programs do not count. Shares are those of the operators' own time in torch.profiler. The
bound is the time that all multiplications and additions of the step would take at the speed of a product of two large
matrices. Peak memory is the most that torch's CPU allocator held at once during a step beyond what it held before.
Writes results/benchmarks/steps.json after every method.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from common import median, report
from content import Noise
from schedules import peak_of
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from xdomain.batch import Batch
from xdomain.data import BaseDataModule, ImagePair, SingleImage
from xdomain.methods import (
    DIDD,
    ConSinGAN,
    FaderNetwork,
    GuidedTransfer,
    MaskedTransfer,
    Method,
    PatchVAEGAN,
    PyramidMethod,
    SinGAN,
    StructuralAnalogy,
)
from xdomain.networks.halving import DoublingConv, HalvingConv
from xdomain.networks.spectral import SpectralNorm
from xdomain.running.trainer import Trainer

WARM_UP, ROUNDS, PROFILED, LARGEST = 2, 3, 1, 5
BATCH, SIDE = 8, 1024
COFFEE = "scikit-image:coffee"
Make = Callable[[], BaseDataModule]

noise: Make = partial(Noise, batch_size=BATCH)
METHODS: dict[str, tuple[type[Method], Make, int]] = {  # the number is that of the scale, from 0
    "DIDD": (DIDD, noise, 0),
    "MaskedTransfer": (MaskedTransfer, noise, 0),
    "GuidedTransfer": (GuidedTransfer, noise, 0),
    "FaderNetwork": (FaderNetwork, noise, 0),
    "SinGAN": (SinGAN, partial(SingleImage, COFFEE, max_size=250), 3),
    "ConSinGAN": (ConSinGAN, partial(SingleImage, COFFEE, max_size=250), 3),
    "StructuralAnalogy": (StructuralAnalogy, partial(ImagePair, "scikit-image:coins", COFFEE, max_size=220), 4),
    "PatchVAEGAN": (PatchVAEGAN, partial(SingleImage, COFFEE, max_size=256, batch_size=2), 4),
}
GROUPS = {
    "convolutions": ("convolution", "conv_"),
    "products": ("aten::mm", "addmm", "bmm", "aten::mv", "addmv", "aten::dot"),
    "normalisation": ("batch_norm", "instance_norm"),
    "adam": ("adam",),
}


def divided(norm: SpectralNorm, weight: Tensor) -> Tensor:
    """The formula of torch's spectral norm."""
    matrix = (weight.transpose(0, 1) if norm.transposed else weight).flatten(1)
    with torch.no_grad():
        if norm.training:
            norm._u.copy_(F.normalize(matrix @ norm._v, dim=0, eps=1e-12))
            norm._v.copy_(F.normalize(matrix.T @ norm._u, dim=0, eps=1e-12))
        u, v = norm._u.clone(), norm._v.clone()
    return weight / torch.vdot(u, torch.mv(matrix, v))


@contextmanager
def as_before(method: Method, before: bool) -> Iterator[None]:
    """Train without what makes steps faster."""
    optimizers = method.optimizers()
    for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
        for group in optimizer.param_groups:
            group["fused"] = not before
    with ExitStack() as stack:
        if before:
            stack.enter_context(patch.object(HalvingConv, "forward", nn.Conv2d.forward))
            stack.enter_context(patch.object(DoublingConv, "forward", nn.ConvTranspose2d.forward))
            stack.enter_context(patch.object(SpectralNorm, "forward", divided))
        yield


class Flops(TorchDispatchMode):
    """Counts the multiplications and additions of convolutions and products of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out, packet = func(*args, **(kwargs or {})), func._overloadpacket
        if packet in flop_registry:
            self.total += flop_registry[packet](*args, **(kwargs or {}), out_val=out)
        return out


class Watch:
    """A training step that measures, before and after in turn, then profiles."""

    def __init__(self, method: Method, scale: int, rounds: int) -> None:
        self.method, self.scale, self.rounds, self.own = method, scale, rounds, method.training_step
        self.seconds: dict[bool, list[float]] = {True: [], False: []}
        self.peaks: dict[bool, float] = {}
        self.profiles: list[dict[str, float]] = []
        self.flops = 0

    def __call__(self, batch: Batch, batch_idx: int) -> None:
        step = self.method.trainer.global_step
        if step == 0 and isinstance(self.method, PyramidMethod):
            for scale in range(self.scale + 1):
                self.method.begin_scale(scale, batch)
                self.method.begun.fill_(scale + 1)
        run = partial(self.own, batch, batch_idx)
        timed = WARM_UP + 2 * self.rounds
        before = step % 2 == 1 and step < timed + 2
        with as_before(self.method, before):
            start = time.process_time()
            if step < timed:
                run()
            elif step < timed + 2:
                self.peaks[before] = peak_of(run)
            elif step < timed + 2 + PROFILED:
                self.profiles.append(own_times(run))
            else:
                with Flops() as counter:
                    run()
                self.flops = counter.total
            if WARM_UP <= step < timed:
                self.seconds[before].append(time.process_time() - start)
        self.method.zero_grad()

    @property
    def steps(self) -> int:
        """How many it takes."""
        return WARM_UP + 2 * self.rounds + 2 + PROFILED + 1

    def shares(self) -> dict[str, float]:
        """The share of every operator, in percent."""
        fastest = {name: min(found.get(name, 0.0) for found in self.profiles) for name in self.profiles[0]}
        return {name: round(100 * value / sum(fastest.values()), 2) for name, value in fastest.items()}


def own_times(run: Callable[[], Any]) -> dict[str, float]:
    """Microseconds that a call spends in every operator itself."""
    with profile(activities=[ProfilerActivity.CPU]) as watch:
        run()
    return {event.key: event.self_cpu_time_total for event in watch.key_averages()}


def measure(name: str, rounds: int) -> Watch:
    """Train a method for as many steps as the measurements need."""
    kind, make, scale = METHODS[name]
    data = make()
    torch.manual_seed(0)
    method = kind(**{key: getattr(data, key) for key in ("domains", "channels", "image_size", "shapes")})
    watch = Watch(method, scale, rounds)
    method.training_step = lambda batch, batch_idx: watch(batch, batch_idx)  # type: ignore[method-assign]
    if isinstance(method, PyramidMethod):
        method.place = lambda step: (scale, step + 1)  # type: ignore[method-assign]
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            run_dir=folder,
            max_steps=watch.steps,
            max_epochs=-1,
            limit_val_batches=0,
            accelerator="cpu",
            devices=1,
            logger=False,
            **quiet,
        )
        trainer.fit(method, datamodule=data)
    return watch


def product_speed() -> float:
    """Multiplications and additions per second in a product of two large matrices."""
    a = torch.randn(SIDE, SIDE)
    times = []
    for _ in range(10):
        start = time.process_time()
        a @ a
        times.append(time.process_time() - start)
    return 2 * SIDE**3 / min(times)


def main() -> None:
    """Measure all methods."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", default=list(METHODS))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    metrics, largest = {}, {}
    for name in options.methods:
        watch, speed = measure(name, options.rounds), product_speed()
        before, here = (1000 * median(watch.seconds[key]) for key in (True, False))
        shares = Counter(watch.shares())
        largest[name] = dict(shares.most_common(LARGEST))
        metrics[f"ms_before/{name}"], metrics[f"ms/{name}"] = round(before, 1), round(here, 1)
        metrics[f"share_of_before/{name}"] = round(here / before, 4)
        metrics[f"bound_ms/{name}"] = round(1000 * watch.flops / speed, 1)
        metrics[f"peak_mib_before/{name}"] = round(watch.peaks[True], 1)
        metrics[f"peak_mib/{name}"] = round(watch.peaks[False], 1)
        for group, words in GROUPS.items():
            found = sum(share for key, share in shares.items() if any(word in key for word in words))
            metrics[f"percent_{group}/{name}"] = round(found, 1)
        report("steps", metrics, largest_operators=largest, rounds=options.rounds, threads=1, batch_size=BATCH)


if __name__ == "__main__":
    main()
