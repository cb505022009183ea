"""Exact interventions: some parameters of a picture change, all others stay."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xdomain.engines.schema import Schema

VALUES = 5
"""Most values of a factor in :meth:`Interventions.independent`."""


@dataclass(frozen=True)
class Interventions:
    """Pictures that share a kind of content, and what can be changed in them.

    Attributes:
        schema: the parameters.
        u: parameters float32 [N, P] of the pictures.
        content: names of the parameters that are the content, each visible in every picture.
        shared: names of parameters that are no content, each visible in every picture.
        changes: maps the name of an intervention to the parameters that it takes from a donor.
        draw: draws pictures ``uint8`` [n, C, H, W] of parameters [n, P].
        removed: parameters without the content, [n, P] to [n, P].
    """

    schema: Schema
    u: Tensor
    content: tuple[str, ...]
    shared: tuple[str, ...]
    changes: Mapping[str, tuple[str, ...]]
    draw: Callable[[Tensor], Tensor]
    removed: Callable[[Tensor], Tensor]

    def given(self, u: Tensor, donors: Tensor, names: Sequence[str]) -> Tensor:
        """Parameters [n, P] with the named ones of donors [n, P]."""
        u, columns = u.clone(), [self.schema.index(name) for name in names]
        u[:, columns] = donors[:, columns]
        return u

    def independent(self, count: int, seed: int) -> tuple[Tensor, dict[str, np.ndarray]]:
        """Random parameters in which all factors, content and shared, are independent of each other and uniform.

        A choice has its most frequent values, at most :data:`VALUES`; a number has the middles of as many parts of
        equal frequency. All other parameters are those of one of the pictures. Factors of one value are left out.

        Args:
            count: number of pictures.
            seed: seed of the draws.

        Returns:
            Parameters float32 [count, P], and the index of the value of every factor by name, int64 [count].
        """
        rng = np.random.default_rng(seed)
        u = self.u[torch.from_numpy(rng.integers(len(self.u), size=count))]
        factors = {}
        for name in (*self.content, *self.shared):
            column = self.schema.index(name)
            values = self._values(column)
            index = rng.integers(len(values), size=count)
            u[:, column] = values[torch.from_numpy(index)]
            if len(values) > 1:
                factors[name] = index
        return u, factors

    def _values(self, column: int) -> Tensor:
        """Values of a parameter that :meth:`independent` draws from, ascending."""
        seen = self.u[:, column].numpy()
        if self.schema.parameters[column].kind == "choice":
            values, counts = np.unique(seen, return_counts=True)
            return torch.from_numpy(np.sort(values[np.argsort(-counts, kind="stable")[:VALUES]]))
        middles = (np.arange(VALUES) + 0.5) / VALUES
        return torch.from_numpy(np.unique(np.quantile(seen, middles).astype(seen.dtype)))
