"""What an engine is: parameters, a way to draw them at random, and a way to turn them into a picture."""

from torch import Tensor, nn

from xdomain.engines.schema import Schema


class Engine(nn.Module):
    """Base class of engines: programs that draw pictures from parameters.

    A subclass sets the attributes and implements :meth:`sample` and :meth:`render`. It has no weights and takes no
    arguments; it is a module so that recipes and checkpoints name it like a network.

    Attributes:
        name: a word without spaces, which also names the domain of its pictures.
        channels: 1 for grey pictures, 3 for RGB.
        schema: the parameters.
        version: increase it when any picture changes: data drawn by another version are drawn again.
        label: name of the choice whose values are the classes of a classifier in the same order, or None.
    """

    name: str
    channels: int
    schema: Schema
    version: int
    label: str | None = None

    def sample(self, indices: Tensor, seed: int) -> Tensor:
        """Parameters at random, float32 [n, P]; row i is a pure function of (seed, indices[i]), int64 [n]."""
        raise NotImplementedError(f"{type(self).__name__} must implement sample()")

    def render(self, u: Tensor, size: int) -> Tensor:
        """Pictures ``uint8`` [n, channels, size, size] of parameters [n, P]; a row never depends on the others."""
        raise NotImplementedError(f"{type(self).__name__} must implement render()")

    def attributes(self, u: Tensor) -> dict[str, Tensor]:
        """Facts that a person would name, which follow from parameters [n, P]: bool [n] by name; by default none."""
        return {}
