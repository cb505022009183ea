"""Renderers: from parameters to images, batched tensor code."""

from xdomain.engines.emoji import Emoji
from xdomain.engines.engine import Engine
from xdomain.engines.glyphs import Glyphs
from xdomain.engines.polygons import Polygons
from xdomain.engines.schema import Parameter, Schema

__all__ = ["Emoji", "Engine", "Glyphs", "Parameter", "Polygons", "Schema"]
