"""Feature networks through which metrics look at images and videos, and the bases of the metrics that use them.

One string chooses the network (:func:`build_extractor`); nothing ever falls back from one network to another, and every
metric carries the network's name in its own (``kid@random-conv``).
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric

from xdomain.batch import to_channels, to_uint8
from xdomain.errors import UserError
from xdomain.paths import data_root

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"
GRAMMAR = "torchvision:NET:PATH[:layer=NAME][:input=imagenet|caffe]"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (123.0, 117.0, 104.0)  # RGB, of 255
NOT_ACTIVATED = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Dropout, nn.Linear)


def set_channels(images: Tensor, channels: int) -> Tensor:
    """`xdomain.batch.to_channels` for images [N, C, H, W] and for videos [N, C, T, H, W]."""
    if images.ndim == 4:
        return to_channels(images, channels)
    frames = images.transpose(1, 2)
    changed = to_channels(frames.flatten(0, 1), channels)
    return changed.view(*frames.shape[:2], *changed.shape[1:]).transpose(1, 2)


class Extractor(nn.Module):
    """A frozen network that turns images into feature vectors and feature maps.

    It stays in evaluation mode whatever its owner does, and no gradient passes through it but in :meth:`perceive`.
    Images are float [N, C, H, W] (videos [N, C, T, H, W] where `dims` is 3) in [-1, 1]; what is outside is clamped,
    grey is repeated.

    Attributes:
        name: what metrics print behind their ``@``.
        dim: length of the feature vectors.
        layers: names of the layers whose maps distances use by default.
        dims: 2 for images, 3 for videos.
        channels: number of image channels that the network sees.
        joint: what stands between `name` and a layer.
    """

    name: str
    dim: int
    layers: tuple[str, ...]
    dims = 2
    channels = 3
    joint = "/"

    def train(self, mode: bool = True) -> "Extractor":
        """Stay in evaluation mode."""
        return super().train(False)

    def freeze(self) -> None:
        """Called at the end of every constructor."""
        self.requires_grad_(False).eval()

    def fetch(self, strategy: Any, root: Path | None = None) -> None:
        """Load weights that need the trainer's help; see :meth:`xdomain.zoo.Helper.fetch`. Most networks need none."""

    def at(self, layer: str) -> str:
        """The name of the network with one of its layers."""
        return f"{self.name}{self.joint}{layer}"

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Feature vectors [N, dim] of images."""
        return self.vectors(self._prepared(images))

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Class logits [N, classes] of images.

        Raises:
            ValueError: if the network is no classifier.
        """
        return self.scores(self._prepared(images))

    @torch.no_grad()
    def pyramid(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """Feature maps [N, channels, h, w] (videos [N, channels, t, h, w]) of several layers, in the order asked for.

        Raises:
            ValueError: for a layer that the network does not have.
        """
        return self.perceive(images, layers)

    def perceive(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """What :meth:`pyramid` computes, for losses: gradients pass through it to the images."""
        return self.activations(self._prepared(images), layers)

    def maps(self, images: Tensor, layer: str) -> Tensor:
        """Feature maps [N, channels, h, w] of one layer."""
        return self.pyramid(images, [layer])[0]

    def forward(self, images: Tensor) -> Tensor:
        """Feature vectors, so that an extractor serves as `feature` of the metrics of torchmetrics."""
        return self.features(images)

    def _prepared(self, images: Tensor) -> Tensor:
        if images.ndim != self.dims + 2 or not images.is_floating_point():
            raise ValueError(
                f"{self.name} takes float tensors of {self.dims + 2} dimensions in [-1, 1], "
                f"not {images.dtype} {tuple(images.shape)}"
            )
        return set_channels(images.float().clamp(-1.0, 1.0), self.channels)

    def vectors(self, images: Tensor) -> Tensor:
        """What :meth:`features` computes, for images that are prepared."""
        raise NotImplementedError(f"{type(self).__name__} must implement vectors()")

    def scores(self, images: Tensor) -> Tensor:
        """What :meth:`logits` computes, for images that are prepared."""
        raise ValueError(f"{self.name} is no classifier and has no logits")

    def activations(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """What :meth:`pyramid` computes, for images that are prepared."""
        raise NotImplementedError(f"{type(self).__name__} must implement activations()")


def _orthogonal(out: int, fan_in: int, generator: torch.Generator) -> Tensor:
    """A matrix [out, fan_in] whose rows have unit length and are orthogonal as far as fan_in allows.

    Uniform numbers in double precision are the same bits on every machine, and so, but for the last bit of the rounding
    to float32, is what QR makes of them.
    """
    drawn = torch.rand(max(out, fan_in), min(out, fan_in), generator=generator, dtype=torch.float64) - 0.5
    q, r = torch.linalg.qr(drawn)
    q = q * r.diagonal().sign()  # LAPACK leaves the signs to the implementation
    return F.normalize(q if out >= fan_in else q.T, dim=1).float()


class RandomConv(Extractor):
    """Convolutions 3x3 with fixed random weights: features that need no data and are the same on every machine.

    Four layers ``1`` to ``4``, each a convolution (orthogonal rows, scaled to keep the second moment) with
    LeakyReLU(0.2), average pooling by 2 between them, no normalisation. Three quarters of the first layer's filters sum
    to zero and are 4 times as strong: neighbouring pixels are alike, so that plain filters see little but brightness
    (on digits, KID did not notice noise of deviation 0.1 with them). The feature vector joins the spatial means of all
    layers. Values compare with each other, never with those of another network.

    Args:
        dims: 2 for images, 3 for videos.

    Example:
        >>> network = RandomConv()
        >>> images = torch.zeros(2, 1, 32, 32)
        >>> network.name, network.features(images).shape, network.maps(images, "3").shape
        ('random-conv', torch.Size([2, 480]), torch.Size([2, 128, 8, 8]))
    """

    slope = 0.2
    contrast = 4.0

    def __init__(self, dims: int = 2) -> None:
        super().__init__()
        self.dims = dims
        self.name = "random-conv" if dims == 2 else "random-conv3d"
        widths = (32, 64, 128, 256) if dims == 2 else (16, 32, 64, 128)
        self.layers = tuple(str(i + 1) for i in range(len(widths)))
        self.dim = sum(widths)
        gain = math.sqrt(2 / (1 + self.slope**2))
        generator = torch.Generator().manual_seed(0)
        self.weights = nn.ParameterList()
        previous = self.channels
        for width in widths:
            weight = _orthogonal(width, previous * 3**dims, generator).view(width, previous, -1)
            if not self.weights:
                edges = weight[width // 4 :]
                edges = edges - edges.mean(2, keepdim=True)
                weight[width // 4 :] = self.contrast * edges / edges.norm(dim=(1, 2), keepdim=True)
            self.weights.append(nn.Parameter(gain * weight.view(width, previous, *[3] * dims)))
            previous = width
        self.freeze()

    def activations(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        _check_layers(self.name, layers, self.layers)
        convolve, pool = (F.conv2d, F.avg_pool2d) if self.dims == 2 else (F.conv3d, F.avg_pool3d)
        found: dict[str, Tensor] = {}
        x = images
        for name, weight in zip(self.layers, self.weights, strict=True):
            if found:
                x = pool(x, 2, ceil_mode=True)  # ceil: no image is too small
            x = found[name] = F.leaky_relu(convolve(x, weight, padding=1), self.slope)
            if all(layer in found for layer in layers):
                break
        return [found[layer] for layer in layers]

    def vectors(self, images: Tensor) -> Tensor:
        return torch.cat([x.flatten(2).mean(2) for x in self.activations(images, self.layers)], dim=1)


def _check_layers(name: str, layers: Sequence[str], known: Sequence[str]) -> None:
    for layer in layers:
        if layer not in known:
            raise ValueError(f"{name} has no layer {layer!r}; it has {', '.join(known)}")


class _Reached(Exception):
    """All wanted maps are there: the rest of the network need not run."""


class HookedExtractor(Extractor):
    """Base of extractors around a whole network: maps are the outputs of its submodules, by dotted name.

    Args:
        name: see :class:`Extractor`.
        network: any module that takes prepared images.
        normalise: from [-1, 1] to what the network was trained on.
    """

    def __init__(self, name: str, network: nn.Module, normalise: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.name, self.network, self.normalise = name, network, normalise
        trunk = next((n for n in ("features", "body") if isinstance(getattr(network, n, None), nn.Module)), "")
        skipped = (*NOT_ACTIVATED, nn.Flatten)
        children = network.get_submodule(trunk).named_children()
        self.layers = tuple(f"{trunk}.{n}".lstrip(".") for n, child in children if not isinstance(child, skipped))

    def activations(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        modules = dict(self.network.named_modules())
        _check_layers(self.name, layers, [n for n in modules if n])
        found: dict[str, Tensor] = {}

        def remember(layer: str) -> Callable[[nn.Module, Any, Tensor], None]:
            def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
                found[layer] = output.clone()  # the next module may be a ReLU that works in place
                if len(found) == len(set(layers)):
                    raise _Reached

            return hook

        handles = [modules[layer].register_forward_hook(remember(layer)) for layer in set(layers)]
        try:
            self.network(self.normalise(images))
        except _Reached:
            pass
        finally:
            for handle in handles:
                handle.remove()
        for layer in layers:
            if layer not in found or found[layer].ndim != 4:
                raise ValueError(f"layer {layer!r} of {self.name} yields no maps [N, C, h, w]")
        return [found[layer] for layer in layers]


class ClassifierExtractor(HookedExtractor):
    """Features of a classifier of this package: of a zoo recipe, a checkpoint, or a network at hand.

    Args:
        classifier: an :class:`xdomain.zoo.Helper`, whose weights may arrive later with :meth:`fetch`, or a network with
            `features(images)`, `dim` and `in_channels`.
        name: see :class:`Extractor`.

    Example:
        >>> from xdomain.networks import HalfClassifier
        >>> network = ClassifierExtractor(HalfClassifier(in_channels=1), "toy")
        >>> images = torch.zeros(2, 3, 32, 32)
        >>> network.features(images).shape, network.maps(images, "body.3").shape
        (torch.Size([2, 128]), torch.Size([2, 32, 16, 16]))
    """

    def __init__(self, classifier: nn.Module, name: str) -> None:
        network = classifier.network if hasattr(classifier, "fetch") else classifier
        missing = [n for n in ("features", "dim", "in_channels") if not hasattr(network, n)]
        if missing or not isinstance(network, nn.Module):
            raise ValueError(f"{type(network).__name__} has no {' and no '.join(missing)}: it is no classifier")
        super().__init__(name, network, lambda images: images)
        self.classifier = classifier
        self.dim, self.channels = int(network.dim), int(network.in_channels)  # type: ignore[arg-type]
        self.freeze()

    def fetch(self, strategy: Any, root: Path | None = None) -> None:
        if hasattr(self.classifier, "fetch"):
            self.classifier.fetch(strategy, root)  # type: ignore[operator]

    def _prepared(self, images: Tensor) -> Tensor:
        if not bool(getattr(self.classifier, "ready", True)):
            raise RuntimeError(f"{self.name} has no weights yet: call fetch() first")
        return super()._prepared(images)

    def vectors(self, images: Tensor) -> Tensor:
        vectors: Tensor = self.network.features(images)  # type: ignore[operator]
        return vectors

    def scores(self, images: Tensor) -> Tensor:
        scores: Tensor = self.network(images)
        return scores


class TorchvisionExtractor(HookedExtractor):
    """A network of torchvision with weights from a file, applied to images at their own size.

    The feature vector is the spatial mean of the maps of one layer.

    Args:
        net: name of the network, as in ``torchvision.models``.
        weights: file with its state dict, in any precision; a relative path is also looked for in the data root.
        layer: dotted name of the layer for the feature vector; by default the output of ``features``.
        caffe: the network takes RGB in 0-255 minus (123, 117, 104), not ImageNet's mean and deviation in 0-1.

    Raises:
        UserError: for an unknown network or layer, or a file that is missing, unreadable or of another network.
    """

    def __init__(self, net: str, weights: str, layer: str = "features", caffe: bool = False) -> None:
        if net not in torchvision.models.list_models(module=torchvision.models):
            raise UserError(f"torchvision has no classifier {net!r}: see torchvision.models.list_models().")
        with torch.random.fork_rng():  # the initial weights are thrown away and must not shift the run's random state
            network = torchvision.models.get_model(net, weights=None)
        _load(network, weights, net)
        super().__init__(net.replace("_", "-"), network, self._caffe if caffe else self._imagenet)
        self.layer = layer
        self.freeze()
        try:
            self.dim = self.maps(torch.zeros(1, 3, 128, 128), layer).shape[1]
        except ValueError as error:
            raise UserError(f"{error}: give another one in {GRAMMAR}.") from error

    @staticmethod
    def _imagenet(images: Tensor) -> Tensor:
        mean, std = (images.new_tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        return ((images + 1) / 2 - mean) / std

    @staticmethod
    def _caffe(images: Tensor) -> Tensor:
        return (images + 1) * 127.5 - images.new_tensor(CAFFE_MEAN).view(1, 3, 1, 1)

    def vectors(self, images: Tensor) -> Tensor:
        return self.activations(images, [self.layer])[0].mean((2, 3))

    def scores(self, images: Tensor) -> Tensor:
        scores: Tensor = self.network(self.normalise(images))
        return scores


def _load(network: nn.Module, weights: str, net: str) -> None:
    path = next((p for p in (Path(weights).expanduser(), data_root() / weights) if p.is_file()), None)
    if path is None:
        raise UserError(f"there are no weights {weights}, nor below {data_root()}: give their path in {GRAMMAR}.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path} cannot be read as a state dict ({type(error).__name__}).") from error
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise UserError(f"{path} does not hold the state dict of torchvision's {net}.") from error


class Inception(Extractor):
    """The Inception of the published FID, KID and IS: torch-fidelity's, by way of torchmetrics.

    Vectors are the 2048 means after the last block, of the image enlarged to 299x299. Maps are taken at the image's own
    size, as the single-image FID needs them: ``64`` is what enters the first max-pooling (the default of SinGAN's
    code), ``192`` what enters the second (SinGAN's paper).

    Args:
        network: torchmetrics' ``NoTrainInceptionV3`` for the feature ``"2048"``.
    """

    name = "inception"
    dim = 2048
    layers = ("64", "192")
    joint = "-"

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.freeze()

    def vectors(self, images: Tensor) -> Tensor:
        vectors: Tensor = self.network(to_uint8(images))
        return vectors

    def scores(self, images: Tensor) -> Tensor:
        head = self.network.fc
        assert isinstance(head, nn.Linear)
        return self.vectors(images) @ head.weight.T  # without the bias, as in the original Inception Score

    def activations(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        _check_layers(self.name, layers, self.layers)
        found = {}
        x = images
        for module in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"):
            x = self.network.get_submodule(module)(x)
        found["64"] = x
        if "192" in layers:
            x = F.max_pool2d(x, 3, 2)
            for module in ("Conv2d_3b_1x1", "Conv2d_4a_3x3"):
                x = self.network.get_submodule(module)(x)
            found["192"] = x
        return [found[layer] for layer in layers]


def _inception() -> Inception:
    path = Path(torch.hub.get_dir(), "checkpoints", INCEPTION_FILE)
    try:
        import torch_fidelity  # type: ignore[import-not-found]  # noqa: F401
        from torchmetrics.image.fid import NoTrainInceptionV3
    except ImportError as error:
        raise UserError("the feature network inception needs a package: pip install torch-fidelity.") from error
    if not path.is_file():
        raise UserError(f"the weights of inception are not at {path}: put {INCEPTION_URL} there.")
    with torch.random.fork_rng():
        return Inception(NoTrainInceptionV3("inception-v3-compat", ["2048"], str(path)))


def build_extractor(spec: str) -> Extractor:
    """The feature network that a string names.

    ====================================================== ==========================================================
    ``inception``                                          the published one; needs torch-fidelity and its weights
    ``random-conv``, ``random-conv3d``                     fixed random convolutions, for images and for videos
    ``torchvision:NET:PATH[:layer=NAME][:input=caffe]``    a network of torchvision, weights from a file; the layer of
                                                           the feature vector; the input is ImageNet's by default
    anything else                                          zoo recipe or path of a classifier's checkpoint; its weights
                                                           arrive with :meth:`Extractor.fetch`
    ====================================================== ==========================================================

    Raises:
        UserError: if the string does not parse, or what it names is not there.

    Example:
        >>> build_extractor("random-conv").layers
        ('1', '2', '3', '4')
    """
    if spec == "inception":
        return _inception()
    if spec in ("random-conv", "random-conv3d"):
        return RandomConv(dims=3 if spec.endswith("3d") else 2)
    if spec.startswith("torchvision:"):
        return TorchvisionExtractor(*_parse(spec))
    from xdomain.zoo import Helper  # here, since it trains with Lightning, which no other metric needs

    with torch.random.fork_rng():
        helper = Helper(spec)
    return ClassifierExtractor(helper, "own-classifier" if "/" in spec else spec.replace("_", "-"))


def _parse(spec: str) -> tuple[str, str, str, bool]:
    _, *parts = spec.split(":")
    options = dict(part.split("=", 1) for part in parts[2:] if "=" in part)
    known = options.keys() <= {"layer", "input"} and len(options) == len(parts) - 2
    if not (known and all(parts) and options.get("input", "imagenet") in ("imagenet", "caffe")):
        raise UserError(f"the feature network {spec!r} does not read as {GRAMMAR}.")
    return parts[0], parts[1], options.get("layer", "features"), options.get("input") == "caffe"


class Count(NamedTuple):
    """How many images a number rests on; of a distance between pairs, both are the number of pairs."""

    real: int
    fake: int


class ImageMetric(Metric):
    """Base of metrics that may look through a network.

    The network is no submodule: it does not appear in `parameters()` and `state_dict()`, but follows to another device.

    Args:
        name: what the number is called in tables, with the feature network.
        network: extractor or other frozen network.

    Attributes:
        n: the images behind the last `compute()`, over all processes.
    """

    is_differentiable = False
    higher_is_better: bool | None = False
    full_state_update = False

    def __init__(self, name: str, network: nn.Module | None = None) -> None:
        super().__init__()
        self.name, self.n = name, Count(0, 0)
        self._held = (network,)

    @property
    def extractor(self) -> Extractor:
        """The feature network."""
        extractor = self._held[0]
        assert isinstance(extractor, Extractor)
        return extractor

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        moved = super()._apply(fn, exclude_state)
        for network in self._held:
            if network is not None:
                network.to(self.device)  # not fn: the network keeps its precision, as the states do
        return moved


class PairMetric(ImageMetric):
    """Base of metrics that average a distance over pairs of a real and a generated image."""

    total: Tensor
    pairs: Tensor

    def __init__(self, name: str, network: nn.Module | None = None) -> None:
        super().__init__(name, network)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("pairs", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def distances(self, real: Tensor, fake: Tensor) -> Tensor:
        """One distance per pair, [N]; real is [N, ...] or [1, ...]."""
        raise NotImplementedError(f"{type(self).__name__} must implement distances()")

    def update(self, real: Tensor, fake: Tensor) -> None:
        """Add pairs of images float [N, C, H, W] in [-1, 1]; a single real image [1, C, H, W] serves all generated."""
        if len(real) not in (1, len(fake)):
            raise ValueError(f"{self.name}: {len(real)} real and {len(fake)} generated images are no pairs")
        self.total += self.distances(real, fake).double().sum()
        self.pairs += len(fake)

    def _pyramids(self, real: Tensor, fake: Tensor, layers: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
        """For every layer the maps of the real and of the generated images, which must have one size."""
        if real.shape[2:] != fake.shape[2:]:
            raise ValueError(
                f"{self.name} compares images of one size, not {tuple(real.shape)} and {tuple(fake.shape)}"
            )
        return list(zip(*(self.extractor.pyramid(images, layers) for images in (real, fake)), strict=True))

    def compute(self) -> Tensor:
        """Mean over the pairs."""
        self.n = Count(int(self.pairs), int(self.pairs))
        if not self.pairs:
            raise ValueError(f"{self.name} has seen no pair")
        return (self.total / self.pairs).float()
