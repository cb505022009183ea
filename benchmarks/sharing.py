"""A DTN step as it is trained here against the naive schedule of the same mathematics.

    python benchmarks/sharing.py

Naive: f of both domains in every step, one forward of g for D and another for g, weight gradients of D in g's update.
Here: f's features out of the cache, one forward of g for both updates, D frozen while g's loss is built. Writes
results/benchmarks/sharing.json; the speed-up should be at least 1.25, the gradients the same.
"""

import time

import torch
from common import NAIVE_SCHEDULE, dtn, median, report, small_pair
from torch import Tensor
from torch.nn import functional as F

from xdomain.batch import to_float
from xdomain.losses import l_d, l_gang
from xdomain.methods import DTN

ROUNDS = 30
Gradients = dict[str, Tensor]


def generator_loss(m: DTN, h_a: Tensor, y_a: Tensor, y_b: Tensor, x_b: Tensor) -> Tensor:
    """L_G of the recipe."""
    gang = l_gang(m.D(y_a), m.D(y_b))
    return gang + m.alpha * m.l_const(h_a, y_a) + m.beta * F.mse_loss(y_b, x_b)


def naive(m: DTN, x_a: Tensor, x_b: Tensor) -> Gradients:
    """Everything computed where it is needed."""
    with torch.no_grad():
        y = m.g(torch.cat([m.features(x_a), m.features(x_b)]))
    y_a, y_b = y.chunk(2)
    m.zero_grad()
    l_d(m.D(y_a), m.D(y_b), m.D(x_b)).backward()
    found = {f"D.{n}": p.grad.clone() for n, p in m.D.named_parameters() if p.grad is not None}
    m.zero_grad()
    h_a, h_b = m.features(x_a), m.features(x_b)
    y_a, y_b = m.g(torch.cat([h_a, h_b])).chunk(2)
    generator_loss(m, h_a, y_a, y_b, x_b).backward()
    return found | {f"g.{n}": p.grad.clone() for n, p in m.g.named_parameters() if p.grad is not None}


def shared(m: DTN, h_a: Tensor, h_b: Tensor, x_b: Tensor) -> Gradients:
    """The schedule of DTN.training_step."""
    y_a, y_b = m.g(torch.cat([h_a, h_b])).chunk(2)
    m.zero_grad()
    l_d(m.D(y_a.detach()), m.D(y_b.detach()), m.D(x_b)).backward()
    found = {f"D.{n}": p.grad.clone() for n, p in m.D.named_parameters() if p.grad is not None}
    m.zero_grad()
    m.D.requires_grad_(False)
    generator_loss(m, h_a, y_a, y_b, x_b).backward()
    m.D.requires_grad_(True)
    return found | {f"g.{n}": p.grad.clone() for n, p in m.g.named_parameters() if p.grad is not None}


def main() -> None:
    """Alternate the two schedules on the same batch."""
    data = small_pair()
    method = dtn(data, view=None).train()  # the random view would differ between the two
    batch, _, _ = next(iter(data.train_dataloader()))
    x_a, x_b = to_float(batch["a"].image), to_float(batch["b"].image)
    h_a, h_b = method.features(x_a), method.features(x_b)
    times: dict[str, list[float]] = {"naive": [], "shared": []}
    gap = 0.0
    for _ in range(ROUNDS):
        start = time.perf_counter()
        one = naive(method, x_a, x_b)
        middle = time.perf_counter()
        other = shared(method, h_a, h_b, x_b)
        times["naive"].append(middle - start)
        times["shared"].append(time.perf_counter() - middle)
        gap = max([gap, *(float((one[k] - other[k]).abs().max()) for k in one)])
    metrics = {
        "seconds_naive": median(times["naive"]),
        "seconds_shared": median(times["shared"]),
        "speed_up": median([a / b for a, b in zip(times["naive"], times["shared"], strict=True)]),
        "largest_gradient_difference": gap,
    }
    report("sharing", metrics, against=NAIVE_SCHEDULE, rounds=ROUNDS, batch_size=data.batch_size)


if __name__ == "__main__":
    main()
