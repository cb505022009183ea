"""How many avatars a second the engine draws.

    python benchmarks/avatars.py

Writes results/benchmarks/avatars.json; at 64x64 it should be at least 400 a second in both styles.
"""

import time

import torch
from common import median, report

from xdomain.engines.avatars import Style, draw_parameters, render

ROUNDS = 10
COUNT = 256
STYLES: tuple[Style, ...] = ("photo", "emoji")


def main() -> None:
    """Draw both styles alternately."""
    rates: dict[str, list[float]] = {style: [] for style in STYLES}
    for i in range(-1, ROUNDS):  # one round more, which also makes the noise and is not counted
        u = draw_parameters(torch.arange(COUNT), torch.full((COUNT,), i), seed=0)
        for style in STYLES:
            start = time.perf_counter()
            render(u, size=64, style=style)
            if i >= 0:
                rates[style].append(COUNT / (time.perf_counter() - start))
    metrics = {f"{style}s_per_second": median(values) for style, values in rates.items()}
    report("avatars", metrics, rounds=ROUNDS, pictures=COUNT, threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
