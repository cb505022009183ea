"""Clips of two people, whose frames are two domains: two avatars, or one's own two videos."""

import hashlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.data.attributes import HorizontalFlip
from xdomain.data.base import BaseDataModule, ImageData, Split, checked_names
from xdomain.data.cache import Arrays, cached_arrays
from xdomain.data.folders import part_shares
from xdomain.data.single import find_sample, pair_names
from xdomain.data.video import read_video
from xdomain.engines import avatars as drawing
from xdomain.engines import performance
from xdomain.errors import UserError, refuse
from xdomain.paths import data_root

LEAST = 4  # frames of a person in a part


def square(frames: Tensor, size: int) -> Tensor:
    """The largest central squares of frames [T, C, H, W] as ``uint8`` [T, C, size, size], antialiased."""
    height, width = frames.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = frames[..., top : top + side, left : left + side]
    if side == size:
        return middle
    values = F.interpolate(middle.float(), (size, size), mode="bicubic", align_corners=False, antialias=True)
    return values.round_().clamp_(0, 255).byte()


class TwoVideos(BaseDataModule):
    """The frames of two people's videos: two unpaired domains, RGB.

    Of each video, the first frames are for training, then come those for validation, the last are for the test:
    neighbours in time are nearly equal, so that a random choice would test with what was learned. Frames are cut to
    their central square.

    Args:
        a: source: a video file or a folder of frames; see :func:`xdomain.data.video.read_video`.
        b: target, likewise.
        names: names of the two domains; by default the file names without folder and ending.
        image_size: height and width in pixels.
        start: index of the first frame of each video, from 0.
        stride: take every ``stride``-th frame.
        val_share: share of the frames for validation.
        test_share: share of the frames for the test.
        flip: mirror training images at random.
    """

    channels = (3, 3)

    def __init__(
        self,
        a: str,
        b: str,
        names: tuple[str, str] | None = None,
        image_size: int = 64,
        start: int = 0,
        stride: int = 1,
        val_share: float = 0.1,
        test_share: float = 0.1,
        flip: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if image_size < 1:
            refuse(self, "image_size", image_size, "give a number of pixels of at least 1.")
        self.domains, self.image_size, self.root = pair_names(a, b, names), image_size, data_root()
        shares, self.flip = part_shares(val_share, test_share), flip
        self._parts: dict[tuple[str, Split], ImageData] = {}
        for role, path in (("a", a), ("b", b)):
            frames = square(read_video(find_sample(path), start, stride=stride, size=4 * image_size), image_size)
            counts = {split: round(share * len(frames)) for split, share in shares.items()}
            counts["train"] = len(frames) - sum(counts.values())
            if min(counts.values()) < LEAST:
                raise UserError(
                    f"the {len(frames)} frames of {path} are too few for training, validation and test: give a longer "
                    "video, or a smaller stride."
                )
            splits: tuple[Split, ...] = ("train", "val", "test")
            parts = frames.numpy()
            for split in splits:
                self._parts[role, split], parts = ImageData(parts[: counts[split]]), parts[counts[split] :]

    def data(self, role: str, split: Split) -> ImageData:
        return self._parts[role, split]

    def augmentation(self, role: str) -> nn.Module | None:
        return HorizontalFlip() if self.flip else None

    def contents(self) -> dict[str, Any]:
        parts = {f"{role} {split}": data.images for (role, split), data in self._parts.items()}
        return {part: hashlib.sha256(images.tobytes()).hexdigest() for part, images in parts.items()}


class AvatarClips(BaseDataModule):
    """Clips of two avatars who turn, speak, look around and blink: two unpaired domains, RGB, without a download.

    Every part is one take of each person, and no two takes move alike. The pose of every frame is known; the labels
    are numbers of frames.

    Args:
        people: identities of the two avatars.
        names: names of the two domains.
        image_size: height and width in pixels.
        train_frames: frames of each person for training, at 25 per second.
        val_frames: the same for validation.
        test_frames: the same for the test.
        world_seed: seed of the population and of the motion.
    """

    channels = (3, 3)
    takes: tuple[Split, ...] = ("train", "val", "test")

    def __init__(
        self,
        people: tuple[int, int] = (7, 15),
        names: tuple[str, str] = ("anna", "boris"),
        image_size: int = 64,
        train_frames: int = 1500,
        val_frames: int = 100,
        test_frames: int = 400,
        world_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        sizes = {"train_frames": train_frames, "val_frames": val_frames, "test_frames": test_frames}
        for name, value in {"image_size": image_size, **sizes}.items():
            if value < 1:
                refuse(self, name, value, "give a number of at least 1.")
        if people[0] == people[1] or names[0] == names[1]:
            raise UserError(f"the people are {people} with the names {names}: give two different ones.")
        self.people, self.domains, self.image_size = tuple(people), checked_names(names), image_size
        self.frames: dict[Split, int] = {"train": train_frames, "val": val_frames, "test": test_frames}
        self.world_seed = world_seed

    def contents(self) -> dict[str, Any]:
        return {"world": self.world_key, "people": self.people, "frames": self.frames}

    @property
    def world_key(self) -> str:
        """Everything but the person and the take that a frame depends on."""
        return f"{self.world_seed} {self.image_size} {drawing.VERSION} {performance.VERSION}"

    def parameters(self, role: str, split: Split, person: str | None = None) -> Tensor:
        """Engine parameters of the frames of a part, float32 [T, P].

        Args:
            role: whose motion.
            split: the part.
            person: role of the person who moves like that; by default the same.
        """
        take = 2 * self.takes.index(split) + self.roles.index(role)
        who = self.people[self.roles.index(person or role)]
        return performance.perform(who, self.frames[split], take, self.world_seed)

    def swapped(self, role: str, split: Split, positions: list[int], person: str) -> Tensor:
        """The true face swap: another person in the pose of a role's frames, ``uint8`` [N, 3, H, W]."""
        return drawing.render(self.parameters(role, split, person)[positions], self.image_size)

    def data(self, role: str, split: Split) -> ImageData:
        u = self.parameters(role, split)

        def make(begin: int, end: int) -> Arrays:
            return {"images": drawing.render(u[begin:end], self.image_size).numpy()}

        who = self.people[self.roles.index(role)]
        key = f"{who} {role} {self.frames[split]} {self.world_key}"
        images = cached_arrays(f"clips-{who}-{split}", key, len(u), make)["images"]
        return ImageData(images, torch.arange(len(u)).numpy())
