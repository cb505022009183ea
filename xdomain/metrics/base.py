"""Base classes of metrics of images and videos."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from xdomain.features.base import Extractor


def gather_rows(rows: Tensor, group: Any = None) -> list[Tensor]:
    """Gather rows [N, ...] of all processes, some of which may have none; for a metric's ``dist_sync_fn``.

    A process without rows does not know their width or type, which torchmetrics assumes to be equal everywhere.

    Args:
        rows: the rows of this process; any empty tensor if it has none.
        group: the processes; all by default.

    Returns:
        the rows of every process, in order.
    """
    kinds: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(kinds, (rows.shape, rows.dtype), group)
    if shape_and_type := next(((shape, kind) for shape, kind in kinds if shape.numel() > 0), None):
        shape, kind = shape_and_type
        rows = rows if rows.numel() > 0 else rows.new_empty((0, *shape[1:]), dtype=kind)
    gathered: list[Tensor] = gather_all_tensors(rows, group)
    return gathered


class Count(NamedTuple):
    """Number of images behind a value; for a distance between pairs, both are the number of pairs."""

    real: int
    fake: int


class ImageMetric(Metric):
    """Base class of metrics that may use a network.

    The network is not a submodule: it does not appear in `parameters()` and `state_dict()`, but moves with the metric
    to another device.

    Args:
        name: name of the value in tables, including the feature network.
        network: extractor or other frozen network.

    Attributes:
        n: the images behind the last `compute()`, over all processes.
    """

    is_differentiable = False
    higher_is_better: bool | None = False
    full_state_update = False

    def __init__(self, name: str, network: nn.Module | None = None) -> None:
        super().__init__(dist_sync_fn=gather_rows)
        self.name, self.n = name, Count(0, 0)
        self._held = (network,)

    @property
    def extractor(self) -> Extractor:
        """The feature network."""
        extractor = self._held[0]
        assert isinstance(extractor, Extractor)
        return extractor

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        moved = super()._apply(fn, exclude_state)
        for network in self._held:
            if network is not None:
                network.to(self.device)  # not fn: the network keeps its precision, like the states
        return moved


class PairMetric(ImageMetric):
    """Base class of metrics that average a distance over pairs of a real and a generated image."""

    total: Tensor
    pairs: Tensor

    def __init__(self, name: str, network: nn.Module | None = None) -> None:
        super().__init__(name, network)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("pairs", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def distances(self, real: Tensor, fake: Tensor) -> Tensor:
        """One distance per pair, [N]; real is [N, ...] or [1, ...]."""
        raise NotImplementedError(f"{type(self).__name__} must implement distances()")

    def update(self, real: Tensor, fake: Tensor) -> None:
        """Add pairs of images float [N, C, H, W] in [-1, 1]; a single real image is paired with every generated one."""
        if len(real) not in (1, len(fake)):
            raise ValueError(f"{self.name}: {len(real)} real and {len(fake)} generated images are no pairs")
        self.total += self.distances(real, fake).double().sum()
        self.pairs += len(fake)

    def _pyramids(self, real: Tensor, fake: Tensor, layers: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
        """For every layer the feature maps of the real and the generated images, which must have the same size."""
        if real.shape[2:] != fake.shape[2:]:
            raise ValueError(
                f"{self.name} compares images of one size, not {tuple(real.shape)} and {tuple(fake.shape)}"
            )
        return list(zip(*(self.extractor.pyramid(images, layers) for images in (real, fake)), strict=True))

    def compute(self) -> Tensor:
        """Mean over the pairs."""
        self.n = Count(int(self.pairs), int(self.pairs))
        if not self.pairs:
            raise ValueError(f"{self.name} has seen no pair")
        return (self.total / self.pairs).float()
