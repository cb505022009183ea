"""What permuted AdaIN adds to a training step of ResNet-18 on 32x32 pixels, on one thread.

    python benchmarks/padain.py [ROUNDS] [--plot FILE]

The share at a probability p is (seconds of the draws + p times the seconds that an exchange in every layer adds) /
seconds of a step without: at p = 0.01 most steps exchange nothing, so a direct comparison would measure other programs.
All in processor time, of the fastest of several rounds. Writes results/benchmarks/padain.json. With --plot it draws the
published accuracies of the recipe casts over p instead.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
import yaml
from common import report
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional as F

from xdomain.commands.table import TABLES, read_results
from xdomain.networks import PermutedAdaIN, insert_padain

BATCH, P, DRAWS = 32, 0.01, 1000


def seconds(call: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def plot(file: Path) -> None:
    """Accuracies of the recipe casts over p, with two standard errors."""
    rows = yaml.safe_load(TABLES.read_text())["casts"]["rows"]
    results = read_results(Path("results"))
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    for metric, label in (("accuracy", "light of the class"), ("accuracy_shuffled", "shuffled light")):
        numbers = [results[row["recipe"]]["metrics"][metric] for row in rows]
        means, errors = zip(*((100 * m["mean"], 200 * m["std"] / m["n"] ** 0.5) for m in numbers), strict=True)
        axes.errorbar(range(len(rows)), means, errors, marker="o", capsize=3, label=label)
    axes.set(xlabel="p", ylabel="accuracy, %", xticks=range(len(rows)), xticklabels=[row["p"] for row in rows])
    axes.legend()
    figure.savefig(file, dpi=150)


def main() -> None:
    """Measure the step without and with every layer active, in turn, then the draws alone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", type=int, nargs="?", default=5)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    if options.plot:
        plot(options.plot)
        return
    rounds = options.rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=10)
    network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    layers = insert_padain(network, 0.0)
    x, labels = torch.randn(BATCH, 3, 32, 32), torch.randint(10, (BATCH,))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(x), labels).backward()
        optimizer.step()

    times: dict[float, list[float]] = {0.0: [], 1.0: []}
    step()
    for _ in range(rounds):
        for p, measured in times.items():
            insert_padain(network, p)
            measured.append(seconds(step))
    plain, always = (min(measured) for measured in times.values())
    layer, one = PermutedAdaIN(1e-9), torch.zeros(2, 1, 2, 2)
    draws = len(layers) * seconds(lambda: [layer(one) for _ in range(DRAWS)]) / DRAWS
    metrics = {
        "seconds_per_step": plain,
        "seconds_per_step_all_layers_active": always,
        "seconds_of_draws_per_step": draws,
        "share_at_p_1": (always - plain + draws) / plain,
        "share_at_p_0.01": (P * (always - plain) + draws) / plain,
    }
    report("padain", metrics, rounds=rounds, batch_size=BATCH, image_size=32, layers=len(layers))


if __name__ == "__main__":
    main()
