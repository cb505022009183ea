"""What the methods share that change attributes of images by name."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Sample
from xdomain.changes import check_attribute, parsed_changes
from xdomain.data.attributes import AttributeDomains, truth
from xdomain.errors import UserError, refuse
from xdomain.losses import gradient_penalty
from xdomain.methods.base import Method

NetworkFactory = Callable[[int, int, int], nn.Module]
"""Makes a network from the channels of the images, their size in pixels and the number of attributes."""


class AttributeEditor(Method):
    """Base class of methods that change named attributes of images, any number at once.

    The images are one domain of data with attributes.

    Args:
        attributes: the attributes that can be changed: names of the data's, or rules over these by name, such as
            ``{Facial_Hair: Mustache or Goatee or not No_Beard}``.
        exclusive: groups of attributes of which an image has at most one; an edit that adds one takes away the others.
        options: see :class:`xdomain.methods.base.Method`.

    Attributes:
        names: names of the attributes that can be changed.
    """

    edits = True

    def __init__(
        self, attributes: list[str] | dict[str, str], exclusive: list[list[str]] | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        if len(self.domains) != 1:
            kind = type(self).__name__
            raise UserError(f"{kind} edits the images of one domain, but the data has {len(self.domains)}: use one.")
        if not attributes:
            refuse(self, "attributes", attributes, "give at least one attribute.")
        self.attributes = attributes if isinstance(attributes, dict) else {name: name for name in attributes}
        self.names = tuple(self.attributes)
        self.exclusive = tuple(tuple(group) for group in exclusive or ())
        for name in (name for group in self.exclusive for name in group):
            check_attribute(self, type(self).__name__, "exclusive", name, self.names)

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """From the domain to itself."""
        return ((self.domains[0], self.domains[0]),)

    @property
    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {"edit": self.edit}

    # Training

    def setup(self, stage: str) -> None:
        """Refuse data without these attributes."""
        if stage == "fit":
            self.own(torch.zeros(0, len(self.attributed().attribute_names)))

    def on_fit_start(self) -> None:
        """Refuse attributes that all training images have, or none."""
        table = self.data.data("a", "train").attributes
        assert table is not None
        for name, share in zip(self.names, self.own(torch.from_numpy(table)).mean(0).tolist(), strict=True):
            if share in (0.0, 1.0):
                raise UserError(f"the attribute {name} holds for {share:.0%} of the training images: leave it out.")

    def on_train_start(self) -> None:
        """Let every rank draw target attributes of its own."""
        self.separate_noise()

    def attributed(self) -> AttributeDomains:
        """The data module, refused without attributes."""
        if not isinstance(data := self.data, AttributeDomains):
            kind = type(self).__name__
            raise UserError(f"{kind} needs data with attributes such as Avatars or CelebA, not {type(data).__name__}.")
        return data

    def own(self, attributes: Tensor) -> Tensor:
        """What images have of :attr:`names`, float [N, K] of 0 and 1, by the data's attributes [N, A]."""
        table = attributes.cpu().numpy()
        return truth(self.attributes.values(), self.attributed().attribute_names, table).float().to(attributes.device)

    def sampled(self, sample: Sample) -> tuple[Tensor, Tensor, Tensor]:
        """Images, their attributes, and those of other images of the batch."""
        assert sample.attributes is not None
        own = self.own(sample.attributes)
        return sample.image, own, own[torch.randperm(len(own), device=own.device)]

    # Inference

    def edited(self, images: Tensor, own: Tensor, target: Tensor, strength: float = 1.0) -> Tensor:
        """Edit images in evaluation mode, from attributes [N, K] to others, both of 0 and 1; see :meth:`edit`."""
        raise NotImplementedError(f"{type(self).__name__} must implement edited()")

    def read(self, images: Tensor) -> Tensor:
        """What is seen of :attr:`names` in images [N, C, H, W] in [-1, 1]: float [N, K] of 0 and 1."""
        raise NotImplementedError(f"{type(self).__name__} must implement read()")

    def changed(self, own: Tensor, changes: dict[str, bool]) -> Tensor:
        """Attributes [N, K] with some set or taken away, and with them what they exclude."""
        row = [0.0 if name not in changes else 1.0 if changes[name] else -1.0 for name in self.names]
        return self.after(own, own.new_tensor(row).expand_as(own))

    def after(self, own: Tensor, changes: Tensor) -> Tensor:
        """Attributes [N, K] after changes [N, K]: 1 adds and takes away what is excluded, -1 takes away, 0 leaves."""
        pairs = [[float(self.excludes(a, b)) for b in self.names] for a in self.names]
        left = own * ((changes > 0).to(own) @ own.new_tensor(pairs) == 0)
        return torch.where(changes == 0, left, (changes > 0).to(own))

    def excludes(self, name: str, other: str) -> bool:
        """Whether nothing can have both of two attributes."""
        return name != other and any(name in group and other in group for group in self.exclusive)

    def flipped(self, own: Tensor, name: str) -> Tensor:
        """Attributes [N, K] with one added where it lacks and taken away where not."""
        has = own[:, [self.names.index(name)]] > 0
        return torch.where(has, self.changed(own, {name: False}), self.changed(own, {name: True}))

    def edit(self, images: Tensor, attributes: str, strength: float = 1.0) -> Tensor:
        """Change attributes by name.

        Args:
            images: float [N, C, H, W] in [-1, 1].
            attributes: what to add and what to take away, such as ``+Eyeglasses,-Smiling``.
            strength: amount of the change; 0 gives a reconstruction, 1 what was trained, more exaggerates.

        Returns:
            float [N, C, H, W] in [-1, 1].

        Raises:
            SettingError: for attributes that the method does not know or that exclude each other.
        """
        changes = self.parsed(attributes)
        if not math.isfinite(strength):
            refuse(self, "strength", strength, "give a finite number, such as 1.")
        own = self.read(images)
        return self.edited(images, own, self.changed(own, changes), strength)

    def edit_by(self, images: Tensor, changes: Tensor, strength: float = 1.0) -> Tensor:
        """The same with the changes of every image as numbers [N, K]; see :meth:`after`."""
        own = self.read(images)
        return self.edited(images, own, self.after(own, changes), strength)

    def parsed(self, attributes: str) -> dict[str, bool]:
        """Changes by name, such as ``{Eyeglasses: True, Smiling: False}`` for ``+Eyeglasses,-Smiling``."""
        return parsed_changes(self, type(self).__name__, attributes, self.names, self.exclusive)

    def translate(self, images: Tensor, source: str, target: str) -> Tensor:
        """Reconstruct images: an edit that changes nothing."""
        self.direction("transfer", source, target)
        own = self.read(images)
        return self.edited(images, own, own)


class CriticEditor(AttributeEditor):
    """Base class of editors whose one generator sees the image and is trained against WGAN-GP's critic.

    In training, G edits images to the attributes of other images of the batch. D scores images and classifies their
    attributes; it learns both from real images, and the scores from edited ones. After training its classifier reads
    which attributes an image has before the change.

    Args:
        generator: makes G from (channels, image size, number of attributes).
        discriminator: makes D, likewise; its output is a pair of scores and logits of the attributes.
        critic_updates: updates of D per update of G.
        penalty: weight of D's gradient penalty.
        options: see :class:`AttributeEditor`.

    Attributes:
        weights: maps the name of a loss to its weight.
    """

    def __init__(
        self,
        generator: NetworkFactory,
        discriminator: NetworkFactory,
        critic_updates: int = 5,
        penalty: float = 10.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if critic_updates < 1:
            refuse(self, "critic_updates", critic_updates, "give a number of at least 1.")
        if self.accumulate > 1:
            reason = ", but not every batch updates all networks"
            refuse(self, "accumulate", self.accumulate, f"{reason}: set it to 1 and give larger batches instead.")
        self.critic_updates, self.weights = critic_updates, {"l_penalty": penalty}
        self.G = generator(self.channels[0], self.image_size, len(self.names))
        self.D = discriminator(self.channels[0], self.image_size, len(self.names))

    def build_optimizers(self) -> dict[str, Optimizer]:
        return {"d": self.optimizer(self.D.parameters()), "g": self.optimizer(self.G.parameters())}

    def d_loss(self, images: Tensor, edited: Tensor, own: Tensor) -> Tensor:
        """D's loss: WGAN-GP on images and edited ones, and the classification of the images' own attributes."""
        real, logits = self.D(images)
        fake, _ = self.D(edited)
        penalty = gradient_penalty(lambda x: self.D(x)[0], images, edited, per_image=True)
        losses = {"l_critic": fake.mean() - real.mean(), "l_penalty": penalty}
        return self.summed({**losses, "l_attributes": self.l_attributes(logits, own)}, self.weights)

    def l_attributes(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """Binary cross-entropy of logits [N, K] with attributes [N, K] of 0 and 1, averaged over both."""
        return F.binary_cross_entropy_with_logits(logits, wanted)

    def label(self, own: Tensor, target: Tensor) -> Tensor:
        """What G is told of the attributes of the image and the target attributes, [N, K] both."""
        raise NotImplementedError(f"{type(self).__name__} must implement label()")

    def edited(self, images: Tensor, own: Tensor, target: Tensor, strength: float = 1.0) -> Tensor:
        with self.evaluating():
            result: Tensor = self.G(images, self.label(own, torch.lerp(own, target, strength)))
            return result

    def read(self, images: Tensor) -> Tensor:
        """What D sees of :attr:`names` in images [N, C, H, W] in [-1, 1]: float [N, K] of 0 and 1."""
        with self.evaluating():
            logits: Tensor = self.D(images)[1]
            return (logits > 0).float()
