"""The parameters of an engine: names, kinds and ranges, and their encoding for networks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from xdomain.engines.drawing import Draws

Kind = Literal["continuous", "choice", "periodic"]


@dataclass(frozen=True)
class Parameter:
    """One parameter of an engine.

    Attributes:
        name: unique within its schema.
        kind: ``continuous``: a number in [low, high]; ``choice``: 0..k-1, one of k named values; ``periodic``: a number
            in [low, high), where high means the same as low.
        low: lower end of the range; 0 for a choice.
        high: upper end of the range; k - 1 for a choice.
        values: names of the k values of a choice, empty for the other kinds.
        group: group of the parameter, for reports; may be empty.
    """

    name: str
    kind: Kind
    low: float = 0.0
    high: float = 1.0
    values: tuple[str, ...] = ()
    group: str = ""

    def __post_init__(self) -> None:
        if (self.kind == "choice") != bool(self.values):
            raise ValueError(f"parameter {self.name!r}: a choice has named values, the other kinds have none")
        if self.kind == "choice":
            object.__setattr__(self, "low", 0.0)
            object.__setattr__(self, "high", len(self.values) - 1.0)
        elif not self.low < self.high:
            raise ValueError(f"parameter {self.name!r}: low must be below high, not {self.low} and {self.high}")

    @property
    def size(self) -> int:
        """Columns that the parameter takes in a one-hot vector."""
        return {"continuous": 1, "choice": len(self.values), "periodic": 2}[self.kind]


class Schema:
    """The parameters of an engine, in the order of the columns of u.

    An engine takes u, float32 [n, P], one column per parameter in its own unit; a network reads and writes the one-hot
    form v, float32 [n, U]: k columns for a choice, one in [0, 1] for a continuous value, (cos, sin) for a periodic one.

    Attributes:
        parameters: the P parameters.
        names: their names.
        slices: maps a name to the columns of the parameter in v.
        size: U, the number of columns of v.
        groups: maps a group to the indices of its parameters, in the order of first appearance.

    Args:
        parameters: the parameters; equal names raise ValueError.

    Example:
        >>> schema = Schema([Parameter("hat", "choice", values=("no", "yes")), Parameter("age", "continuous", 0, 100)])
        >>> schema.one_hot(torch.tensor([[1.0, 25.0]]))
        tensor([[0.0000, 1.0000, 0.2500]])
    """

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        self.parameters = tuple(parameters)
        self.names = tuple(p.name for p in self.parameters)
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"two parameters have the same name: {', '.join(self.names)}")
        self.slices: dict[str, slice] = {}
        self.groups: dict[str, tuple[int, ...]] = {}
        self.size = 0
        for i, p in enumerate(self.parameters):
            self.slices[p.name] = slice(self.size, self.size + p.size)
            self.groups[p.group] = (*self.groups.get(p.group, ()), i)
            self.size += p.size

    def __len__(self) -> int:
        return len(self.parameters)

    def index(self, name: str) -> int:
        """Column of the named parameter in u; an unknown name raises ValueError."""
        if name not in self.names:
            raise ValueError(f"no parameter is called {name!r}, only {', '.join(self.names)}")
        return self.names.index(name)

    def draw(self, draw: Draws) -> Tensor:
        """Independent uniform values of all parameters: u, float32 [n, P]."""
        columns = [
            draw.integers(p.size).double() if p.kind == "choice" else draw.uniform(p.low, p.high)
            for p in self.parameters
        ]
        return torch.stack(columns, dim=1).float()

    def one_hot(self, u: Tensor) -> Tensor:
        """Parameters u [n, P] -> one-hot vectors float32 [n, U]."""
        parts = []
        for p, column in zip(self.parameters, u.double().unbind(1), strict=True):
            if p.kind == "choice":
                parts.append(F.one_hot(column.round().long(), p.size).double())
                continue
            fraction = (column - p.low) / (p.high - p.low)
            if p.kind == "periodic":
                parts.append(torch.stack([(2 * math.pi * fraction).cos(), (2 * math.pi * fraction).sin()], dim=1))
            else:
                parts.append(fraction[:, None])
        return torch.cat(parts, dim=1).float()

    def from_one_hot(self, v: Tensor) -> Tensor:
        """Any vectors [n, U], such as the output of a network -> the nearest valid parameters u, float32 [n, P].

        A choice is the column with the largest value, a continuous value is clamped to its range, and a periodic one is
        the angle of (cos, sin), whatever its length. The result has no useful gradient.
        """
        columns = []
        for p in self.parameters:
            part = v[:, self.slices[p.name]].double()
            if p.kind == "choice":
                columns.append(part.argmax(1).double())
                continue
            if p.kind == "periodic":
                fraction = (torch.atan2(part[:, 1], part[:, 0]) / (2 * math.pi)).remainder(1.0)
            else:
                fraction = part[:, 0].clamp(0, 1)
            columns.append(p.low + fraction * (p.high - p.low))
        return torch.stack(columns, dim=1).float()
