"""Tools of all engines."""

import torch

from xdomain.engines.drawing import stripes


def test_stripes_are_box_filtered():
    phase = torch.linspace(0, 7.3, 50)
    for rate in (0.13, 0.9, 3.7):
        fine = (phase[:, None] + rate * ((torch.arange(4000) + 0.5) / 4000 - 0.5)).double() % 1 < 0.3
        torch.testing.assert_close(stripes(phase, rate, 0.3), fine.float().mean(1), atol=1e-3, rtol=0)
