"""The parameters of an engine: names, kinds and ranges, their encoding for networks, and their form in files."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from xdomain.engines.drawing import Draws
from xdomain.errors import choice, did_you_mean

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
        symmetry: for a periodic parameter that looks the same several times within its range: the name of a choice, and
            how often for each of its values. A square looks the same after a quarter of a turn.
    """

    name: str
    kind: Kind
    low: float = 0.0
    high: float = 1.0
    values: tuple[str, ...] = ()
    group: str = ""
    symmetry: tuple[str, tuple[int, ...]] | None = None

    def __post_init__(self) -> None:
        if (self.kind == "choice") != bool(self.values):
            raise ValueError(f"parameter {self.name!r}: a choice has named values, the other kinds have none")
        if self.kind == "choice":
            object.__setattr__(self, "low", 0.0)
            object.__setattr__(self, "high", len(self.values) - 1.0)
        elif not self.low < self.high:
            raise ValueError(f"parameter {self.name!r}: low must be below high, not {self.low} and {self.high}")
        if self.symmetry and self.kind != "periodic":
            raise ValueError(f"parameter {self.name!r}: only a periodic parameter has a symmetry")

    @property
    def size(self) -> int:
        """Columns that the parameter takes in a one-hot vector."""
        return {"continuous": 1, "choice": len(self.values), "periodic": 2}[self.kind]


class Schema:
    """The parameters of an engine, in the order of the columns of u.

    An engine takes u, float32 [n, P], one column per parameter in its own unit; a network reads and writes the one-hot
    form v, float32 [n, U]: k columns for a choice, one in [0, 1] for a continuous value, (cos, sin) for a periodic one.
    Where a periodic parameter has a symmetry of order k, these are cos and sin of k times its angle: values that look
    the same have the same form, and the form of a turning picture has no jump.

    Attributes:
        parameters: the P parameters.
        names: their names.
        slices: maps a name to the columns of the parameter in v.
        size: U, the number of columns of v.
        groups: maps a group to the indices of its parameters, in the order of first appearance.
        layout: kind and number of columns of every parameter in v: what a network needs to know of a schema.

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
        self.layout = tuple((p.kind, p.size) for p in self.parameters)
        for p in self.parameters:
            if p.symmetry and len(self.parameters[self.index(p.symmetry[0])].values) != len(p.symmetry[1]):
                raise ValueError(f"parameter {p.name!r}: its symmetry must have an order for each of {p.symmetry[0]!r}")

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
                angle = 2 * math.pi * fraction * self._order(p, u)
                parts.append(torch.stack([angle.cos(), angle.sin()], dim=1))
            else:
                parts.append(fraction[:, None])
        return torch.cat(parts, dim=1).float()

    def from_one_hot(self, v: Tensor) -> Tensor:
        """Any vectors [n, U], such as the output of a network -> the nearest valid parameters u, float32 [n, P].

        A choice is the column with the largest value, a continuous value is clamped to its range, and a periodic one is
        the angle of (cos, sin), whatever its length; of those that look the same, the smallest. The result has no
        useful gradient.
        """
        u = v.new_zeros((len(v), len(self)), dtype=torch.float64)
        for i, p in enumerate(self.parameters):
            if p.kind == "choice":
                u[:, i] = v[:, self.slices[p.name]].argmax(1)
        for i, p in enumerate(self.parameters):
            part = v[:, self.slices[p.name]].double()
            if p.kind == "periodic":
                fraction = (torch.atan2(part[:, 1], part[:, 0]) / (2 * math.pi)).remainder(1.0) / self._order(p, u)
                u[:, i] = p.low + fraction * (p.high - p.low)
            elif p.kind == "continuous":
                u[:, i] = p.low + part[:, 0].clamp(0, 1) * (p.high - p.low)
        return u.float()

    def _order(self, p: Parameter, u: Tensor) -> Tensor:
        """How often a periodic parameter looks the same within its range, for parameters u [n, P]: float64 [n]."""
        if p.symmetry is None:
            return u.new_ones(len(u), dtype=torch.float64)
        name, orders = p.symmetry
        return torch.tensor(orders, dtype=torch.float64, device=u.device)[u[:, self.index(name)].round().long()]

    def soften(self, v: Tensor, most: float) -> Tensor:
        """One-hot vectors [n, U] with softened choices: what a network that is not sure of them writes.

        A share of every choice, uniform in [0, most], is spread over all its values at random (uniformly on the
        simplex). Up to 0.5 its largest value stays the largest. Draws from torch's global random numbers.
        """
        soft = v.clone()
        for p in self.parameters:
            if p.kind == "choice":
                share = most * torch.rand(len(v), 1, device=v.device)
                spread = -(1 - torch.rand(len(v), p.size, device=v.device)).log()
                columns = self.slices[p.name]
                soft[:, columns] = torch.lerp(v[:, columns], spread / spread.sum(1, keepdim=True), share)
        return soft

    def errors(self, u: Tensor, truth: Tensor) -> Tensor:
        """How far parameters u [n, P] are from the true ones [n, P]: float32 [n, P].

        Of a choice 1 if it is wrong, else 0. Of a number its distance as a share of the range; of a periodic one on the
        circle, modulo the symmetry that it truly has.
        """
        found = []
        for i, p in enumerate(self.parameters):
            one, other = u[:, i].double(), truth[:, i].double()
            if p.kind == "choice":
                found.append((one.round() != other.round()).double())
                continue
            distance = (one - other).abs() / (p.high - p.low)
            if p.kind == "periodic":
                period = 1 / self._order(p, truth)
                distance = torch.minimum(distance.remainder(period), period - distance.remainder(period))
            found.append(distance)
        return torch.stack(found, dim=1).float()

    def named(self, row: Tensor) -> dict[str, float | str]:
        """One row of u, [P], as a person reads it: choices by the names of their values, numbers with six digits."""
        values = zip(self.parameters, row.tolist(), strict=True)
        return {p.name: p.values[round(x)] if p.kind == "choice" else float(f"{x:.6g}") for p, x in values}

    def from_names(self, values: Mapping[str, object]) -> Tensor:
        """The reverse of :meth:`named`: float32 [P].

        Raises:
            ValueError: for a missing or an unknown parameter, or a value that it cannot have; the message names it.
        """
        for name in values:
            if name not in self.names:
                raise ValueError(f"{name} is no parameter{did_you_mean(name, self.names)}")
        row = []
        for p in self.parameters:
            if p.name not in values:
                raise ValueError(f"{p.name} is missing: give {_possible(p)}.")
            value = values[p.name]
            if p.kind == "choice":
                if str(value) not in p.values:
                    raise ValueError(f"{p.name} is {value!r}: give {_possible(p)}.")
                row.append(float(p.values.index(str(value))))
                continue
            number = _number(value)
            if not p.low - 1e-5 <= number <= p.high + 1e-5:  # rounded ends; NaN is outside
                raise ValueError(f"{p.name} is {value!r}: give {_possible(p)}.")
            row.append(min(max(number, p.low), p.high))
        return torch.tensor(row)


def _number(value: object) -> float:
    """A number, or the number that a text holds, or else NaN."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _possible(p: Parameter) -> str:
    return choice(p.values) if p.kind == "choice" else f"a number from {p.low:g} to {p.high:g}"
