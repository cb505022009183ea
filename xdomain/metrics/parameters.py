"""How well the parameters of an engine are read."""

import torch
from torch import Tensor
from torchmetrics import Metric

from xdomain.engines import Schema


class ParameterErrors(Metric):
    """Errors of parameters that were read from images, one value per parameter.

    Args:
        schema: the parameters.
        names: those that are compared; by default all.

    Example:
        >>> from xdomain.engines.polygons import SCHEMA
        >>> metric = ParameterErrors(SCHEMA, ["vertices", "radius"])
        >>> u = torch.tensor([[1, 0.4, 0, 0, 0, 0, 0, 0], [2, 0.7, 0, 0, 0, 0, 0, 0]])
        >>> metric.update(u, u + torch.tensor([[1, 0.07, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]]))
        >>> {name: round(value.item(), 3) for name, value in metric.compute().items()}
        {'right/vertices': 0.5, 'error/radius': 0.1}
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, schema: Schema, names: list[str] | None = None) -> None:
        super().__init__()
        self.schema, self.compared = schema, tuple(names or schema.names)
        self.add_state("total", torch.zeros(len(schema), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, u: Tensor, truth: Tensor) -> None:
        """Add parameters and the true ones, [N, P] each."""
        self.total += self.schema.errors(u, truth).double().sum(0)
        self.count += len(u)

    def compute(self) -> dict[str, Tensor]:
        """``right/NAME``: share of choices that are right; ``error/NAME``: mean absolute error as a share of the range.

        ``degrees/NAME``: of a periodic parameter, with the whole range as 360 degrees.
        """
        values = {}
        for name in self.compared:
            i = self.schema.index(name)
            p, mean = self.schema.parameters[i], (self.total[i] / self.count).float()
            kind = {"choice": "right", "continuous": "error", "periodic": "degrees"}[p.kind]
            values[f"{kind}/{name}"] = {"right": 1 - mean, "error": mean, "degrees": 360 * mean}[kind]
        return values
