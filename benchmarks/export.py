"""Exported programs against the methods: how much they differ, and how long an image takes on one core.

    python benchmarks/export.py [--size N] [--batch N] [--rounds N]

Methods have their recipes' kinds of networks, a fraction as wide, and the weights that they begin with. Times are
processor time of alternating passes over the same images. Needs `pip install 'xdomain[export]'`. Writes
results/benchmarks/export.json; the differences should be below 1e-4.
"""

import argparse
import functools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import onnxruntime
import torch
from common import median, report

from xdomain.inference.export import export
from xdomain.methods import (
    CUT,
    DIDD,
    STGAN,
    UNIT,
    AttGAN,
    CycleGAN,
    FaderNetwork,
    GuidedTransfer,
    MaskedTransfer,
    Method,
    Pix2Pix,
    StarGAN,
)
from xdomain.networks import (
    AttGANDiscriminator,
    AttGANGenerator,
    PairDiscriminator,
    ResnetGenerator,
    StarGANDiscriminator,
    StarGANGenerator,
    STGANGenerator,
    UNetGenerator,
)

WIDTH = 16
NAMES = ["black", "blond", "glasses"]


def methods(size: int) -> dict[str, tuple[Method, dict[str, Any]]]:
    """Every method with the options of its export."""
    pair = {"domains": ("with", "without"), "channels": (3, 3), "image_size": size}
    one = {"domains": ("face",), "channels": (3,), "image_size": size, "attributes": NAMES}
    resnet = functools.partial(ResnetGenerator, width=WIDTH, blocks=6)
    critic = functools.partial(AttGANDiscriminator, width=WIDTH, hidden=64)
    patches = functools.partial(StarGANDiscriminator, width=WIDTH)
    guided = {"source": "without", "target": "with"}
    edit = {"task": "edit"}
    return {
        "cyclegan": (CycleGAN(generator=resnet, **pair), {}),
        "unit": (UNIT(width=WIDTH, **pair), {}),
        "cut": (CUT(width=WIDTH, blocks=6, **pair), {}),
        "pix2pix": (
            Pix2Pix(
                generator=functools.partial(UNetGenerator, width=WIDTH, depth=5),
                discriminator=functools.partial(PairDiscriminator, width=WIDTH),
                **pair,
            ),
            {},
        ),
        "guided": (GuidedTransfer(width=WIDTH, sep=8, **pair), guided),
        "masked": (MaskedTransfer(width=WIDTH, sep=8, **pair), guided),
        "didd": (DIDD(width=WIDTH, sep=8, **pair), guided),
        "fader": (FaderNetwork(width=WIDTH, **pair), {}),
        "attgan": (AttGAN(functools.partial(AttGANGenerator, width=WIDTH), critic, **one), edit),
        "stgan": (STGAN(functools.partial(STGANGenerator, width=WIDTH), discriminator=critic, **one), edit),
        "stargan": (StarGAN(functools.partial(StarGANGenerator, width=WIDTH), patches, **one), edit),
    }


def seconds(function: Callable[[], Any]) -> float:
    """Processor time of a call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def main() -> None:
    """Export every method, and time the method against its program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    metrics: dict[str, float] = {}
    for name, (method, chosen) in methods(options.size).items():
        with tempfile.TemporaryDirectory() as folder:
            made = export(method, Path(folder, "model.onnx"), **chosen)
            session = onnxruntime.InferenceSession(str(made.file), settings, providers=["CPUExecutionProvider"])
        images = torch.rand(options.batch, 3, options.size, options.size) * 2 - 1
        inputs = {"images": images, "guide": images.flip(0), "changes": torch.ones(options.batch, len(NAMES))}
        given = {entry: inputs[entry] for entry in made.inputs}
        arrays = {entry: value.numpy() for entry, value in given.items()}
        ends = dict(zip(("source", "target"), method.directions[0], strict=True))
        ends |= {key: value for key, value in chosen.items() if key in ends}
        run = method.edit_by if "changes" in given else functools.partial(method.translate, **ends)
        with torch.inference_mode():
            rounds = [
                (seconds(lambda: run(**given)), seconds(lambda: session.run(None, arrays)))  # noqa: B023 - called here
                for _ in range(1 + options.rounds)
            ][1:]
        metrics[f"difference/{name}"] = made.difference
        metrics[f"milliseconds/{name}"] = 1000 * median([own for own, _ in rounds]) / options.batch
        metrics[f"milliseconds_onnxruntime/{name}"] = 1000 * median([other for _, other in rounds]) / options.batch
        metrics[f"speed_up/{name}"] = median([own / other for own, other in rounds])
        print(name, *(f"{value:.2e}" for key, value in metrics.items() if key.endswith(f"/{name}")), flush=True)
    facts = {"image_size": options.size, "batch": options.batch, "width": WIDTH, "rounds": options.rounds}
    report("export", metrics, onnxruntime=onnxruntime.__version__, torch=torch.__version__, **facts)


if __name__ == "__main__":
    main()
