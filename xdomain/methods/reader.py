"""Reads the parameters of an engine from images: f of tied output synthesis."""

from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from xdomain.batch import Batch, to_channels
from xdomain.data.base import BaseDataModule, Split
from xdomain.engines import Engine
from xdomain.errors import UserError, refuse
from xdomain.losses import l_parameters
from xdomain.methods.base import Method
from xdomain.networks.parameters import activated


class ParameterReader(Method):
    """Regresses the parameters of an engine from images of which they are known.

    Args:
        network: classifier with ``in_channels``, ``classes``, ``dim``, ``features(x)`` and one output for each column
            of the engine's one-hot vector.
        engine: the engine whose parameters are read.
        options: see :class:`Method`.
    """

    def __init__(self, network: nn.Module, engine: Engine, **options: Any) -> None:
        super().__init__(**options)
        self.network, self.engine = network, engine
        if network.classes != engine.schema.size:
            way = f", but the parameters of {engine.name} take {engine.schema.size} columns: give this number."
            refuse(self, "network.classes", network.classes, way)
        self.in_channels: int = network.in_channels  # type: ignore[assignment]

    def build_optimizers(self) -> dict[str, Optimizer]:
        return {"c": self.optimizer(self.network.parameters())}

    def on_fit_start(self) -> None:
        """Load the parameters of all training images."""
        self._truth = one_hot_truth(self, self.data, "a", "train", self.engine)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x, truth = to_channels(batch["a"].image, self.in_channels), self._truth[batch["a"].position]
        loss = self.step("c", lambda: l_parameters(self.network(x), truth, self.engine.schema.layout))
        self.log("loss", loss, prog_bar=True)

    def read(self, images: Tensor) -> Tensor:
        """Parameters u [N, P] of images [N, C, H, W] in [-1, 1]."""
        schema = self.engine.schema
        raw: Tensor = self.network(to_channels(images, self.in_channels)).float()
        return schema.from_one_hot(activated(raw, schema.layout))


def one_hot_truth(method: Method, data: BaseDataModule, role: str, split: Split, engine: Engine) -> Tensor:
    """One-hot vectors [N, U] of the parameters of a role's images, on the method's device.

    Raises:
        UserError: if the data do not know them.
    """
    u = data.drawn_from(role, split, engine.schema)
    if u is None:
        domain = data.domains[data.roles.index(role)]
        raise UserError(
            f"{type(method).__name__} needs images with the parameters of {engine.name}, which {domain} does not have: "
            "use EnginePictures, or other data drawn from them."
        )
    one_hot: Tensor = engine.schema.one_hot(u).to(method.device)
    return one_hot
