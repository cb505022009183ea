"""Base class for methods that learn from a single sample: scales as phases, constants of a scale, sampling."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor

from xdomain.batch import Batch
from xdomain.errors import SettingError, UserError, refuse
from xdomain.methods.base import Method, Phase
from xdomain.networks.pyramid import Size, resize, soft_mask


class PyramidMethod(Method):
    """Base class for methods that learn a pyramid of scales, one after the other, from a single sample.

    Scale i is phase i; all phases have the same number of batches, and each has its own optimisers ``d<i>`` and
    ``g<i>``. All networks exist from the start. What a scale needs from the finished ones is computed in
    :meth:`begin_scale` at its first batch, or is a :meth:`constant` that is recomputed after a resume.

    Args:
        iterations: batches per scale.
        decay: factor of the learning rates in the last fifth of every scale; 1 keeps them constant.
        d_optimizer: builds the optimisers of discriminators; by default ``optimizer``.
        options: see :class:`xdomain.methods.base.Method`; ``scheduler`` is not used.
    """

    grey = False  # whether it also learns from images of one channel
    any_size = True
    begins_with_weights = False  # most scales are initialised as copies of the previous one
    at_once: int | None = None  # samples whose noise is drawn together; None draws that of all
    sizes: Any  # of the scales, coarsest first; methods of two images have them by role
    begun: Tensor

    def __init__(
        self,
        iterations: int = 2000,
        decay: float = 1.0,
        d_optimizer: OptimizerCallable | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not self.grey and {*self.channels} != {3}:
            raise UserError(f"{type(self).__name__} learns from RGB only: set the data's channels to 3, or use SinGAN.")
        if iterations < 1:
            refuse(self, "iterations", iterations, "give a number of batches of at least 1.")
        if self.scheduler is not None:
            raise SettingError(self, "scheduler", "does not know where scales begin: set decay instead.")
        if self.accumulate > 1:
            refuse(self, "accumulate", self.accumulate, ", but a batch holds one sample: set it to 1.")
        self.iterations, self.decay = iterations, decay
        self.d_optimizer = d_optimizer or self.optimizer
        self.register_buffer("begun", torch.zeros((), dtype=torch.int64))  # number of scales reached so far
        self._constants: dict[Any, Any] = {}
        self._constants_of: int | None = None

    # What a method implements

    @property
    def scales(self) -> int:
        """Number of scales."""
        raise NotImplementedError(f"{type(self).__name__} must implement scales")

    def begin_scale(self, scale: int, batch: Batch) -> None:
        """Called at the first batch of a scale: copies the weights of the previous scale, measures the noise."""

    @property
    def tasks(self) -> dict[str, Callable[..., Any]]:
        return super().tasks | {"random": self.sample}

    def random(self, count: int, sizes: Sequence[Size]) -> Tensor:
        """Random samples, of the last of the given sizes; all noise is standard normal, drawn by ``torch.randn``."""
        raise NotImplementedError(f"{type(self).__name__} must implement random()")

    def not_exported(self, task: str) -> str:
        return "" if task == "random" else super().not_exported(task)

    def sample(self, count: int, size: Size | None = None) -> Tensor:
        """New samples of the finest scale reached so far.

        Args:
            count: number of samples.
            size: height and width in pixels (for clips: frames, height and width); by default that of the scale.

        Returns:
            float [count, 3, (T,) H, W] in [-1, 1].
        """
        raise NotImplementedError(f"{type(self).__name__} does not sample")

    # Scales

    def build_phases(self) -> tuple[Phase, ...]:
        return tuple(Phase(f"scale {i}", self.iterations, (f"d{i}", f"g{i}")) for i in range(self.scales))

    def phase_at(self, step: int) -> Phase:
        return self.build_phases()[self.place(step)[0]]

    def place(self, step: int) -> tuple[int, int]:
        """Scale of batch number ``step`` (from 0) and position within it; later batches belong to the last scale."""
        scale = min(step // self.iterations, self.scales - 1)
        return scale, step - scale * self.iterations

    @property
    def scale(self) -> int:
        """The current scale."""
        return self.place(self.trainer.global_step)[0]

    @property
    def finest(self) -> int:
        """The finest scale reached so far.

        Raises:
            UserError: before the first batch.
        """
        begun = int(self.begun)
        if begun == 0:
            raise UserError(f"this {type(self).__name__} is not trained: there is nothing to sample from.")
        return begun - 1

    def check_target(self, target: str) -> None:
        """Raise a UserError for a domain that was not trained on."""
        learned = self.domains[-1]
        if target != learned:
            refuse(self, "target", target, f", but this {type(self).__name__} has learned {learned}: give that.")

    def check_start(self, start: int, lowest: int = 0) -> None:
        """Raise a UserError for a scale at which images cannot be injected."""
        if not lowest <= start <= self.finest:
            refuse(self, "start", start, f"give a scale from {lowest} to {self.finest}.")

    def blend(self, made: Tensor, images: Tensor, mask: Tensor, radius: float) -> Tensor:
        """Blend generated images into the original ones where a mask is, with a soft edge.

        Args:
            made: generated images, [N, 3, H, W] in [-1, 1].
            images: original images, [N, 3, h, w] in [-1, 1].
            mask: [N, 1, h, w] in [0, 1], or [1, 1, h, w] for all images.
            radius: radius of the disk by which the mask is dilated, in pixels of an image of 250 pixels.

        Raises:
            UserError: for a mask that is empty or does not fit the images.
        """
        if mask.ndim != 4 or mask.shape[0] not in (1, len(images)) or mask.shape[1:] != (1, *images.shape[2:]):
            expected = f"[{len(images)}, 1, {images.shape[2]}, {images.shape[3]}]"
            refuse(self, "mask", list(mask.shape), f"give one of {expected}, or one for all images.")
        size, unit = made.shape[2:], max(made.shape[2:]) / 250
        inside = resize(mask.float(), size)
        if not (inside > 0.5).flatten(1).any(1).all():
            raise SettingError(self, "mask", "is empty: mark a region of every image with 1.")
        return torch.lerp(resize(images, size), made, soft_mask(inside, radius * unit, 5 * unit))

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Switch to evaluation mode without gradients, and back afterwards."""
        modes = {module: module.training for module in self.modules()}
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module, mode in modes.items():
                module.training = mode

    def constant(self, key: Any, make: Callable[[], Any]) -> Any:
        """A value that is constant during a scale.

        It is computed at first use, and again after a resume. So ``make`` must draw no random numbers and read no
        weights except those of finished scales.
        """
        if self._constants_of != self.scale:
            self._constants.clear()
            self._constants_of = self.scale
        if key not in self._constants:
            with torch.no_grad():
                self._constants[key] = make()
        return self._constants[key]

    def on_fit_start(self) -> None:
        """Discard the constants of an earlier training."""
        self._constants_of = None

    def on_train_start(self) -> None:
        """Let every rank draw its own noise: all have the same sample."""
        self.separate_noise()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Start a scale at its first batch, and set the learning rates of its optimisers."""
        scale, position = self.place(self.trainer.global_step)
        if position == 0:
            self.begin_scale(scale, batch)
            self.begun.fill_(scale + 1)
        factor = self.decay if position >= 0.8 * self.iterations else 1.0
        for name in (f"d{scale}", f"g{scale}"):
            if name in self._index:
                for group in self.named_optimizer(name).param_groups:
                    group["lr"] = factor * group.setdefault("initial_lr", group["lr"])


def check_at_least_one(method: Method, **counts: int) -> None:
    """Refuse settings of a method that are not positive."""
    for name, count in counts.items():
        if count < 1:
            refuse(method, name, count, "give at least 1.")


def check_walk(method: Method, frames: int, alpha: float, beta: float) -> None:
    """Refuse settings of an animation that are out of range."""
    if frames < 1:
        refuse(method, "frames", frames, "give a number of frames of at least 1.")
    for name, value in {"alpha": alpha, "beta": beta}.items():
        if not 0 <= value <= 1:
            refuse(method, name, value, "give a number from 0 to 1.")
