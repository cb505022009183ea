"""A trained sampler as a function of its noise, to be traced."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from xdomain import __version__
from xdomain.inference.program import SAMPLE
from xdomain.methods import PyramidMethod
from xdomain.networks.pyramid import Size


class _Given(TorchFunctionMode):
    """Gives ``torch.randn`` its results, one after the other."""

    def __init__(self, noises: Sequence[Tensor]) -> None:
        super().__init__()
        self._noises = iter(noises)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return next(self._noises) if func is torch.randn else func(*args, **(kwargs or {}))


class _Recorded(TorchFunctionMode):
    """Keeps what ``torch.randn`` draws."""

    def __init__(self) -> None:
        super().__init__()
        self.noises: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is torch.randn:
            self.noises.append(made.clone())
        return made


class Sampler(nn.Module):
    """The samples of a method that has learned from a single image, as a function of the noise of all scales.

    Args:
        method: the method, whose weights this holds; its finest scale so far gives the size.
    """

    def __init__(self, method: PyramidMethod) -> None:
        super().__init__()
        self.method = method
        self._sizes: Sequence[Size] = method.sizes[: method.finest + 1]

    def forward(self, *noises: Tensor) -> Tensor:
        with _Given(noises):
            return self.method.random(noises[0].shape[0], self._sizes)

    def draw(self, count: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """Some samples that the method draws, float [N, C, H, W] in [-1, 1], and the noise of which they are."""
        with torch.random.fork_rng(devices=[]), _Recorded() as recorded:
            torch.manual_seed(count)
            made = self.method.random(count, self._sizes)
        return tuple(recorded.noises), made

    def facts(self) -> dict[str, Any]:
        """What a user of the program must know, for its metadata."""
        noises, made = self.draw(1)
        return {
            "xdomain": __version__,
            "method": type(self.method).__name__,
            "task": SAMPLE,
            "domain": self.method.domains[-1],
            "channels": made.shape[1],
            "range": [-1, 1],
            "size": list(self._sizes[-1]),
            "inputs": [f"noise_{i}" for i in range(len(noises))],
            "shapes": [list(noise.shape[1:]) for noise in noises],
            "at_once": self.method.at_once,
            "scales": [self.method.finest + 1, self.method.scales],
        }
