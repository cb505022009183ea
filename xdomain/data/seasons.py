"""Landscapes in summer and in winter, drawn: the built-in counterpart of summer2winter."""

from torch import Tensor

from xdomain.data.drawn import DrawnPairs
from xdomain.engines import seasons as engine


class SeasonWorld(DrawnPairs):
    """Landscapes drawn from seed and index, RGB: the same places in ``summer`` and ``winter``.

    The options are those of :class:`xdomain.data.drawn.DrawnPairs`.
    """

    domains = ("summer", "winter")
    engine = engine
    what = "season"

    def render(self, u: Tensor, role: str) -> Tensor:
        return engine.render(u, self.image_size, "summer" if role == "a" else "winter")
