"""Emojis as an engine of their own: what an avatar shows of a person, without how a photo was taken."""

import torch
from torch import Tensor

from xdomain.engines import avatars
from xdomain.engines.avatar_schema import EDITS
from xdomain.engines.engine import Engine
from xdomain.engines.schema import Schema

SHOWN = tuple(i for i, p in enumerate(avatars.SCHEMA.parameters) if p.group != "nuisance")
"""Columns of an avatar's parameters that an emoji shows."""
SCHEMA = Schema(avatars.SCHEMA.parameters[i] for i in SHOWN)
"""The parameters of identity and attributes, in the order of the avatars'."""


class Emoji(Engine):
    """Flat, outlined faces of :mod:`xdomain.engines.avatars`, RGB."""

    name, channels, schema, version = "emoji", 3, SCHEMA, avatars.VERSION

    def sample(self, indices: Tensor, seed: int) -> Tensor:
        return avatars.draw_parameters(indices, torch.zeros_like(indices), seed)[:, SHOWN]

    def attributes(self, u: Tensor) -> dict[str, Tensor]:
        """Glasses, smile, facial hair and hat: is there any?"""
        return {name: u[:, SCHEMA.index(decider)] > 0.5 for name, (decider, *_) in EDITS.items()}

    def render(self, u: Tensor, size: int) -> Tensor:
        whole = u.new_zeros(len(u), len(avatars.SCHEMA))
        whole[:, SHOWN] = u
        return avatars.render(whole, size, "emoji")
