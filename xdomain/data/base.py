"""Base classes of data modules: data sets yield ``uint8`` batches, the module converts them to float on the device."""

import hashlib
import json
import math
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.utilities import CombinedLoader
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torch.utils.data import Dataset

from xdomain.batch import Batch, Sample, to_channels, to_float, to_uint8
from xdomain.data.decode import without_times
from xdomain.data.sampler import EpochBatchSampler, ResumableLoader, ShardSampler, derive_seed
from xdomain.engines.schema import Schema
from xdomain.errors import UserError, refuse
from xdomain.paths import data_root

Split = Literal["train", "val", "test"]
ROLES = ("a", "b")
"""The roles of one or two domains; a data module with more continues the alphabet."""
MOST_DOMAINS = len(string.ascii_lowercase)
PIECE = 2000  # images converted to float per step
MOST_BYTES = 100  # bytes in the name of a domain


class ImageData(Dataset[Sample]):
    """Images of one domain, in memory or memory-mapped, accessed in whole batches.

    Args:
        images: ``uint8`` array [N, C, H, W].
        labels: classes or identities ``int64`` [N], or None.
        attributes: ``uint8`` array [N, K] of 0 and 1, or None.
        rows: indices of the rows of the arrays that belong to this data set, in order, ``int64``; None takes all. Rows
            of a memory-mapped file are not copied.
        files: paths of the image files, relative to a common folder, or None if there are no files.
        label_maps: class of every pixel, ``uint8`` [N, H, W], 255 where it is unknown, or None.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray | None = None,
        attributes: np.ndarray | None = None,
        rows: np.ndarray | None = None,
        files: Sequence[str | Path] | None = None,
        label_maps: np.ndarray | None = None,
    ) -> None:
        self._images, self._labels, self._attributes, self._rows = images, labels, attributes, rows
        self._files, self._label_maps = files, label_maps

    def file(self, position: int) -> Path | None:
        """Path of an image's file, relative to a common folder; None if there is no file."""
        if self._files is None:
            return None
        return Path(self._files[position if self._rows is None else self._rows[position]])

    @property
    def images(self) -> np.ndarray:
        """All images, ``uint8`` [N, C, H, W]; a copy if rows were chosen."""
        return self._images if self._rows is None else self._images[self._rows]

    @property
    def labels(self) -> np.ndarray | None:
        """All labels [N]."""
        return self._labels if self._rows is None or self._labels is None else self._labels[self._rows]

    @property
    def attributes(self) -> np.ndarray | None:
        """All attributes [N, K]."""
        return self._attributes if self._rows is None or self._attributes is None else self._attributes[self._rows]

    @property
    def label_maps(self) -> np.ndarray | None:
        """All label maps [N, H, W]."""
        chosen = self._rows is not None and self._label_maps is not None
        return self._label_maps[self._rows] if chosen else self._label_maps  # type: ignore[index]

    def __len__(self) -> int:
        return len(self._images if self._rows is None else self._rows)

    def __getitems__(self, indices: list[int]) -> Sample:
        position = np.asarray(indices, dtype=np.int64)
        rows = position if self._rows is None else self._rows[position]
        image, *known = (
            None if array is None else torch.from_numpy(np.ascontiguousarray(array[rows]))
            for array in (self._images, self._labels, self._attributes, self._label_maps)
        )
        assert image is not None
        return Sample(image, torch.from_numpy(position), *known)

    def __getitem__(self, index: int) -> Sample:
        return self.__getitems__([index])

    def keep(self, chosen: np.ndarray) -> "ImageData":
        """The subset at the given positions (or where a mask is true), in that order."""
        rows = np.arange(len(self)) if self._rows is None else self._rows
        return ImageData(self._images, self._labels, self._attributes, rows[chosen], self._files, self._label_maps)

    def with_channels(self, channels: int) -> "ImageData":
        """The same with 1 or 3 channels, see :func:`xdomain.batch.to_channels`; grey as RGB takes no more memory."""
        images = self.images
        if images.shape[1] == channels:
            return self
        if channels == 3:
            result = np.broadcast_to(images, (len(images), 3, *images.shape[2:]))
        else:
            result = np.empty((len(images), 1, *images.shape[2:]), dtype=np.uint8)
            for begin in range(0, len(images), PIECE):
                piece = to_float(torch.from_numpy(np.array(images[begin : begin + PIECE])))
                result[begin : begin + PIECE] = to_uint8(to_channels(piece, channels)).numpy()
        files = None if self._files is None else [str(self.file(i)) for i in range(len(self))]
        return ImageData(result, self.labels, self.attributes, files=files, label_maps=self.label_maps)


def checked_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names of domains, which become parts of file names.

    Raises:
        UserError: for a name that leads to another folder or cannot be part of a file name.
    """
    for name in (names := tuple(names)):
        text = name.isprintable() and not {*name} & {*"/\\"} and len(name.encode()) <= MOST_BYTES
        if not text or not name.strip(" ."):
            raise UserError(
                f"the domain name {name!r} cannot be part of a file name: give one of letters and numbers, of at most "
                f"{MOST_BYTES} bytes."
            )
    return names


class SourceLoader:
    """Batches with only the role ``a``, for prediction.

    Not a DataLoader, which Lightning would replace to track the indices that every batch carries anyway. Lightning also
    cannot predict from several loaders at once.
    """

    def __init__(self, loader: ResumableLoader) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Batch]:
        return ({"a": sample} for sample in self.loader)

    def __len__(self) -> int:
        return len(self.loader)


class EmptyBatches:
    """Batches without images of a role, for a process that has none to evaluate.

    Without any batch Lightning would skip the whole validation, and with it checkpoints, image grids and metrics; if
    only one of several processes skipped it, the others would wait forever.

    Args:
        limit: ``limit_val_batches`` or ``limit_test_batches``, of which a share must leave one batch.
    """

    def __init__(self, limit: int | float) -> None:
        self.count = 1 if isinstance(limit, int) or limit == 0 else math.ceil(1 / limit) + 1

    def __iter__(self) -> Iterator[tuple[()]]:
        return iter([()] * self.count)

    def __len__(self) -> int:
        return self.count


class BaseDataModule(pl.LightningDataModule):
    """Base class of all data modules: one domain or several, one set of loaders.

    A module with one domain serves batches with the role ``a``; two domains have the roles ``a`` (source) and ``b``
    (target), further ones ``c`` and so on. Training order is a pure function of the seed; augmentation is a pure
    function of seed, step and rank.

    Args:
        batch_size: training images per domain, step and process.
        eval_batch_size: images per step in validation and test.
        num_workers: number of loader processes; 0 is fastest for data in memory.
        seed: seed of the training order and of the augmentation.

    Attributes:
        domains: names of the domains, e.g. ``("svhn", "mnist")``.
        channels: number of image channels of every domain.
        image_size: height and width in pixels.
        root: folder that holds the data sets.
        subfolder: where the files of this data set are below ``root``; None if it reads none there.
        paired: whether the same position of both roles shows the same thing in validation and test.
        pairs: whether training batches hold pairs as well.
        palettes: from the name of a domain of label maps to the RGB colours of its classes.
        pixel_classes: names of the classes in the label maps of images, in the order of their numbers; empty without
            any.
    """

    domains: tuple[str, ...]
    channels: tuple[int, ...]
    image_size: int
    root: Path
    subfolder: str | None = None
    paired = False
    pairs = False
    palettes: Mapping[str, Sequence[tuple[int, int, int]]] = MappingProxyType({})
    pixel_classes: tuple[str, ...] = ()

    def __init__(self, batch_size: int = 64, eval_batch_size: int = 250, num_workers: int = 0, seed: int = 0) -> None:
        super().__init__()
        for name, value in {"batch_size": batch_size, "eval_batch_size": eval_batch_size}.items():
            if value < 1:
                refuse(self, name, value, "give a number of images of at least 1.")
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.num_workers, self.seed = num_workers, seed
        self.root = data_root(None)

    def data(self, role: str, split: Split) -> ImageData:
        """The images of one role in one split."""
        raise NotImplementedError(f"{type(self).__name__} must implement data()")

    def augmentation(self, role: str) -> nn.Module | None:
        """Augmentation of a role's training images on the device, or None."""
        return None

    def drawn_from(self, role: str, split: Split, schema: Schema) -> Tensor | None:
        """The parameters that a role's images were drawn from, float32 [N, P] in the order of :meth:`data`.

        Args:
            role: the role.
            split: the part.
            schema: the wanted parameters.

        Returns:
            None if the data do not know them.
        """
        return None

    def contents(self) -> dict[str, Any]:
        """What determines the images of each part, as plain types: files with their states, seeds, shares, sizes.

        Order, batches and augmentation are not included.
        """
        return {}

    def fingerprint(self, times: bool = True) -> str:
        """16 hexadecimal digits that change when the images of any part do.

        Files are identified by name, size and modification time; nothing is decoded or drawn.

        Args:
            times: whether modification times matter, which a copy of the files does not keep.

        Raises:
            UserError: if files are missing.
        """
        if not times:
            with without_times():
                return self.fingerprint()
        known = [type(self).__name__, self.domains, self.channels, self.image_size, self.contents()]
        return hashlib.sha256(json.dumps(known).encode(errors="surrogateescape")).hexdigest()[:16]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Height and width of the images of every domain in pixels; for clips: frames, height and width."""
        return ((self.image_size, self.image_size),) * len(self.domains)

    @property
    def roles(self) -> tuple[str, ...]:
        """One role for every domain."""
        return tuple(string.ascii_lowercase[: len(self.domains)])

    def role_of(self, domain: str) -> str:
        """The role of a domain given by name.

        Raises:
            UserError: for a name that this module does not have.
        """
        if domain not in self.domains:
            raise UserError(f"unknown domain {domain!r}: this data has {' and '.join(self.domains)}.")
        return self.roles[self.domains.index(domain)]

    def _shard(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def train_dataloader(self) -> CombinedLoader:
        """Shuffled batches of all domains; an epoch is one pass over the largest domain."""
        data = {role: self.data(role, "train") for role in self.roles}
        length = max(len(d) for d in data.values())
        rank, world_size = self._shard()
        repeat = self.trainer is not None and bool(self.trainer.overfit_batches)  # type: ignore[attr-defined]
        loaders = {}
        for number, (role, images) in enumerate(data.items()):
            stream = 0 if self.pairs else number
            sampler = EpochBatchSampler(
                len(images), length, self.batch_size, self.seed, stream, rank, world_size, repeat=repeat
            )
            loaders[role] = ResumableLoader(images, sampler, self.num_workers)
        return CombinedLoader(loaders, mode="min_size")

    def _eval_dataloader(self, split: Split) -> CombinedLoader:
        rank, world_size = self._shard()
        watched = self._is_watched(split)
        loaders: dict[str, ResumableLoader | EmptyBatches] = {}
        for role in self.roles:  # on all ranks, since Lightning synchronises them at every loader
            if watched and len(images := self.data(role, split)) > rank:
                sampler = ShardSampler(len(images), self.eval_batch_size, rank, world_size)
                loaders[role] = ResumableLoader(images, sampler, self.num_workers)
            else:
                limit = 1.0 if self.trainer is None else getattr(self.trainer, f"limit_{split}_batches")
                loaders[role] = EmptyBatches(limit)
        return CombinedLoader(loaders, mode="max_size")  # a role that is exhausted is None from then on

    def _is_watched(self, split: Split) -> bool:
        """Whether the method or a callback uses the batches of a validation or test.

        A callback does if it has a hook for them, except for parts that are not in its ``watched``.
        """
        if self.trainer is None or split in getattr(self.trainer.lightning_module, "watched", (split,)):
            return True
        stage = "validation" if split == "val" else "test"
        hooks = [f"on_{stage}_batch_start", f"on_{stage}_batch_end"]
        callbacks: list[pl.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        return any(
            split in getattr(callback, "watched", (split,)) and any(is_overridden(hook, callback) for hook in hooks)
            for callback in callbacks
            if not isinstance(callback, ProgressBar)
        )

    def val_dataloader(self) -> CombinedLoader:
        """Every validation image once; no images if neither the method nor a callback uses them."""
        return self._eval_dataloader("val")

    def test_dataloader(self) -> CombinedLoader:
        """Every test image once; no images if neither the method nor a callback uses them."""
        return self._eval_dataloader("test")

    def predict_dataloader(self) -> "SourceLoader":
        """Every test image of the source domain once."""
        images = self.data("a", "test")
        sampler = ShardSampler(len(images), self.eval_batch_size, *self._shard())
        return SourceLoader(ResumableLoader(images, sampler, self.num_workers))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Convert ``uint8`` to float in [-1, 1] on the device; augment it in training."""
        shown = {role: sample for role, sample in batch.items() if isinstance(sample, Sample)}
        samples = {role: sample._replace(image=to_float(sample.image)) for role, sample in shown.items()}
        if self.trainer is None or not self.trainer.training:
            return samples
        for number, (role, sample) in enumerate(samples.items()):
            stream = 0 if self.pairs else number
            if (augment := self.augmentation(role)) is not None:
                seed = derive_seed(self.seed, self.trainer.global_step, self.trainer.global_rank, stream)
                samples[role] = sample._replace(image=_augment(augment, sample.image, seed))
        return samples


def _augment(augment: nn.Module, images: Tensor, seed: int) -> Tensor:
    """Apply a random transform as a pure function of a seed, without changing the global random state."""
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        torch.manual_seed(seed)
        result: Tensor = augment(images)
        return result


class SingleDomain(BaseDataModule):
    """Base class of data modules with one labelled domain.

    Args:
        root: folder that holds the data sets; see :func:`xdomain.paths.data_root`.
        download: fetch missing official files through torchvision.
        limit: use only this many training images, the first ones.
        exclude_classes: classes that are left out of the training part; the other parts keep them.
        augment: random transform of the training images, float [N, C, H, W] in [-1, 1] to the same.
    """

    def __init__(
        self,
        root: str | None = None,
        download: bool = False,
        limit: int | None = None,
        exclude_classes: list[int] | None = None,
        augment: nn.Module | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root = data_root(root)
        self.download, self.limit, self.exclude_classes, self.augment = download, limit, exclude_classes, augment
        self._loaded: dict[Split, ImageData] = {}

    def load(self, split: Split) -> ImageData:
        """Read or draw one whole split."""
        raise NotImplementedError(f"{type(self).__name__} must implement load()")

    def augmentation(self, role: str) -> nn.Module | None:
        return self.augment

    def contents(self) -> dict[str, Any]:
        return {"limit": self.limit, "exclude_classes": self.exclude_classes}

    def data(self, role: str, split: Split) -> ImageData:
        if split not in self._loaded:
            data = self.load(split)
            if split == "train" and self.exclude_classes and data.labels is not None:
                data = data.keep(~np.isin(data.labels, self.exclude_classes))
            if split == "train" and self.limit is not None:
                data = data.keep(np.arange(min(self.limit, len(data))))
            if len(data) == 0:
                raise UserError(f"the {split} part of {self.domains[0]} is empty: check limit and exclude_classes.")
            self._loaded[split] = data
        return self._loaded[split]


class DomainPair(BaseDataModule):
    """Two single-domain modules combined: role ``a`` from the first, role ``b`` from the second.

    Args:
        a: source domain; any data module with one domain.
        b: target domain, unpaired with the first; any data module with one domain.
        root: folder that holds the data sets of both; by default each module keeps its own.
        channels: 1 or 3 converts both to grey (by luma) or RGB (by repetition); None keeps the channels of each.
    """

    def __init__(
        self,
        a: BaseDataModule,
        b: BaseDataModule,
        root: str | None = None,
        channels: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if channels not in (None, 1, 3):
            refuse(self, "channels", channels, "give 1 for grey, 3 for RGB, or null for what each domain has.")
        self.modules = {"a": a, "b": b}
        for role, module in self.modules.items():
            if len(module.domains) != 1:
                reason = f", which has the domains {' and '.join(module.domains)}"
                refuse(self, role, f"a {type(module).__name__}", f"{reason}: give one with a single domain.")
        if root is not None:
            a.root = b.root = data_root(root)
        self.root = a.root
        if a.image_size != b.image_size:
            raise UserError(
                f"image sizes differ: {a.domains[0]} has {a.image_size}, {b.domains[0]} has {b.image_size} pixels; "
                "set image_size of both to the same number."
            )
        self.domains = (a.domains[0], b.domains[0])
        self.channels = (channels, channels) if channels else (a.channels[0], b.channels[0])
        self.image_size = a.image_size
        self.pixel_classes = a.pixel_classes
        if b.pixel_classes not in ((), a.pixel_classes):
            raise UserError(
                f"the label maps of {a.domains[0]} and {b.domains[0]} have different classes: give both the same."
            )
        self._converted: dict[tuple[str, Split], ImageData] = {}

    def data(self, role: str, split: Split) -> ImageData:
        module, channels = self.modules[role], self.channels[self.roles.index(role)]
        if module.channels[0] == channels:
            return module.data("a", split)
        if (role, split) not in self._converted:
            self._converted[role, split] = module.data("a", split).with_channels(channels)
        return self._converted[role, split]

    def drawn_from(self, role: str, split: Split, schema: Schema) -> Tensor | None:
        return self.modules[role].drawn_from("a", split, schema)

    def augmentation(self, role: str) -> nn.Module | None:
        return self.modules[role].augmentation("a")

    def contents(self) -> dict[str, Any]:
        return {role: module.fingerprint() for role, module in self.modules.items()}
