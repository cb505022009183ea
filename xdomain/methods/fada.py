"""Fine-grained adversarial domain adaptation for segmentation."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, PolynomialLR

from xdomain.batch import UNKNOWN, Batch, to_channels, to_float
from xdomain.errors import UserError, refuse
from xdomain.losses import class_evidence, l_fine_grained, l_pixels
from xdomain.losses.fada import TEMPERATURE
from xdomain.methods.base import Method, Phase
from xdomain.networks import DilatedHeads, FineGrainedDiscriminator, PermutedAdaIN, SmallFeatures, insert_padain
from xdomain.networks.segmentation import enlarged

FeaturesFactory = Callable[[int], nn.Module]
"""Makes features with an attribute ``dim`` from the channels of the images."""
HeadFactory = Callable[[int, int], nn.Module]
"""Makes a network from the channels of the features and the number of classes."""

POWER = 0.9  # of the polynomial decay of all learning rates
OVER = 25 / 16  # steps over which they would decay to 0, per step: 31,250 of 20,000 and 62,500 of 40,000


class FADA(Method):
    """Segmentation of a domain without labels, with the labels of another.

    Wang, Shen, Zhang, Duan, Mei, "Classes Matter: A Fine-grained Adversarial Approach to Cross-domain Semantic
    Segmentation", ECCV 2020. The first domain has label maps; those of the second are never looked at.

    Phases: ``source`` trains features f and classifier c on the first domain. ``adversarial`` goes on with that, while
    f also learns that a discriminator d takes features of the second domain for those of the same class of the first.
    ``distil`` trains new networks, as f and c began, on the second domain with the labels that f and c find there. A
    phase of 0 steps is left out: source steps alone are the baseline, and with label maps of the second domain as the
    first they are the ceiling.

    Learning rates fall as (1 - t / T)^0.9, where T is 25/16 of the steps of the phase.

    Args:
        classes: names of the classes, in the order of their numbers.
        colours: red, green and blue, 0 to 255, in which each class is shown.
        features: makes f from the channels of the images.
        classifier: makes c from (channels of the features, number of classes).
        discriminator: makes d from the same.
        pretrained: file with the weights that f begins with, a state dict of torchvision's network; a relative path is
            also looked for in the data root.
        source_steps: batches of the phase ``source``.
        adversarial_steps: batches of the phase ``adversarial``.
        distil_steps: batches of the phase ``distil``.
        weight: of the adversarial loss of f (lambda of the paper).
        confidence: pixels of the second domain whose class is less probable teach nothing in the phase ``distil``.
        frozen_norm: BatchNorm layers of f are constant, in statistics, scale and shift, before ``distil``.
        padain: probability of permuted AdaIN after each convolution of f (Nuriel et al., CVPR 2021); 0.01 in print, 0
            leaves it out. In the phase ``adversarial`` images of the first domain take the statistics of the second,
            whose own pass is left alone; in the other phases images of one domain exchange theirs.
        classifier_rate: factor of the learning rate of c.
        adversarial_optimizer: builds the optimiser of f and c in the phase ``adversarial``; None uses ``optimizer``.
        d_optimizer: builds that of d; None uses ``optimizer``.
        options: see :class:`xdomain.methods.base.Method`, of which ``scheduler`` has no use.
    """

    any_size = True

    def __init__(
        self,
        classes: list[str],
        colours: list[list[int]],
        features: FeaturesFactory = SmallFeatures,
        classifier: HeadFactory = DilatedHeads,
        discriminator: HeadFactory = FineGrainedDiscriminator,
        pretrained: str | None = None,
        source_steps: int = 20000,
        adversarial_steps: int = 40000,
        distil_steps: int = 20000,
        weight: float = 0.001,
        confidence: float = 0.0,
        frozen_norm: bool = True,
        padain: float = 0.0,
        classifier_rate: float = 10.0,
        adversarial_optimizer: OptimizerCallable | None = None,
        d_optimizer: OptimizerCallable | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        lengths = {"source": source_steps, "adversarial": adversarial_steps, "distil": distil_steps}
        for name, value in lengths.items():
            if value < (least := 1 if name == "source" else 0):
                refuse(self, f"{name}_steps", value, f"give a number of batches of at least {least}.")
        if not 1 <= len(classes) <= UNKNOWN:
            refuse(self, "classes", f"{len(classes)} names", f"give from 1 to {UNKNOWN}.")
        if len(colours) != len(classes) or any(len(c) != 3 or not 0 <= min(c) <= max(c) <= 255 for c in colours):
            refuse(self, "colours", colours, f"give red, green and blue from 0 to 255 for {len(classes)} classes.")
        if self.scheduler is not None:
            refuse(self, "scheduler", "set", ", but FADA has a schedule of its own: leave it out.")
        self.classes, self.palette = classes, colours
        self.lengths, self.weight, self.confidence = lengths, weight, confidence
        self.frozen_norm, self.classifier_rate = frozen_norm, classifier_rate
        self.pretrained = pretrained
        self.adversarial_optimizer, self.d_optimizer = adversarial_optimizer, d_optimizer
        self.in_channels, count = max(self.channels), len(classes)

        def labeller() -> nn.ModuleDict:
            f = features(self.in_channels)
            if padain:
                insert_padain(f, padain)
            return nn.ModuleDict({"f": f, "c": classifier(f.dim, count)})  # type: ignore[arg-type]

        self.labeller = labeller()
        self.d = discriminator(self.labeller["f"].dim, count) if adversarial_steps else None  # type: ignore[arg-type]
        self.student = labeller() if distil_steps else None
        self.distilled: Tensor
        self.register_buffer("distilled", torch.tensor(False))
        self._found: Tensor | None = None

    def build_phases(self) -> tuple[Phase, ...]:
        updated = {"source": ("source",), "adversarial": ("adversarial", "d"), "distil": ("distil",)}
        return tuple(Phase(name, steps, updated[name]) for name, steps in self.lengths.items() if steps)

    def build_optimizers(self) -> dict[str, Optimizer]:
        optimizers = {"source": self._of(self.labeller, self.optimizer, self.frozen_norm)}
        if self.d is not None:
            build = self.adversarial_optimizer or self.optimizer
            optimizers["adversarial"] = self._of(self.labeller, build, self.frozen_norm)
            optimizers["d"] = (self.d_optimizer or self.optimizer)(self.d.parameters())
        if self.student is not None:
            optimizers["distil"] = self._of(self.student, self.optimizer, frozen_norm=False)
        return optimizers

    def _of(self, labeller: nn.ModuleDict, build: OptimizerCallable, frozen_norm: bool) -> Optimizer:
        """An optimiser of f and c, of c with a rate of its own."""
        frozen = {id(p) for norm in _norms(labeller) for p in norm.parameters()} if frozen_norm else set()
        optimizer = build(
            [{"params": [p for p in labeller[part].parameters() if id(p) not in frozen]} for part in ("f", "c")]
        )
        optimizer.param_groups[1]["lr"] *= self.classifier_rate
        return optimizer

    def build_schedules(self, optimizers: dict[str, Optimizer]) -> dict[str, LRScheduler]:
        updates = {name: self.lengths["adversarial" if name == "d" else name] // self.accumulate for name in optimizers}
        return {name: PolynomialLR(o, max(1, round(OVER * updates[name])), POWER) for name, o in optimizers.items()}

    def on_fit_start(self) -> None:
        """Refuse data without label maps of the first domain, or with other classes; load pretrained weights."""
        known = self.data.pixel_classes
        if not known or self.data.data("a", "train").__getitems__([0]).label_map is None:
            raise UserError(f"FADA learns from label maps, but {self.domains[0]} has none: give data with label maps.")
        if tuple(self.classes) != known:
            named = f", but the classes of the data are {', '.join(known)}: give these."
            refuse(self, "classes", ", ".join(self.classes), named)

        if self.pretrained is not None and self.updates == 0 and getattr(self.trainer, "weights", None) is None:
            self._load_pretrained(self.pretrained)

    def _load_pretrained(self, name: str) -> None:
        """Let f begin with the weights in a file, in all phases."""
        file = next((f for f in (Path(name).expanduser(), self.data.root / name) if f.is_file()), None)
        if file is None:
            refuse(self, "pretrained", name, f", which is not there, nor below {self.data.root}: give another file.")
        for labeller in (self.labeller, self.student):
            if labeller is not None:
                try:
                    state = torch.load(file, map_location="cpu", weights_only=True)
                    labeller["f"].load_pretrained(state)  # type: ignore[operator]
                except Exception as error:  # damaged files cause errors of many kinds
                    kind = type(labeller["f"]).__name__
                    refuse(self, "pretrained", name, f", which holds no weights for {kind} ({error}): give others.")

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Frozen layers stay in evaluation mode; the last phase begins with labels of the second domain."""
        distils = self.phase.name == "distil"
        self.labeller.train(not distils)
        for norm in _norms(self.labeller) if self.frozen_norm else ():
            norm.eval()
        self.distilled.fill_(distils)
        if distils and self._found is None:
            self._found = self.find_labels()

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        if self.phase.name == "source":
            x, y = batch["a"].image, batch["a"].label_map
            self.log("l_source", self.step("source", lambda: self.l_labels(self.labeller, x, y)), prog_bar=True)
        elif self.phase.name == "adversarial":
            self.adapt(batch)
        else:
            assert self._found is not None
            x, y = batch["b"].image, self._found[batch["b"].position.cpu()].to(self.device)
            self.log("l_distil", self.step("distil", lambda: self.l_labels(self.student, x, y)), prog_bar=True)

    def adapt(self, batch: Batch) -> None:
        """One batch of the phase ``adversarial``: f and c, then d on the features that f had before its update."""
        d, x_t = self.d, to_channels(batch["b"].image, self.in_channels)
        x_s, y_s = to_channels(batch["a"].image, self.in_channels), batch["a"].label_map
        assert d is not None
        assert y_s is not None
        c = self.labeller["c"]
        judged: dict[str, tuple[Tensor, Tensor]] = {}  # features and class evidence

        def labeller_loss() -> Tensor:
            h_s, h_t = self.features_of(x_s, x_t)
            p_s, p_t = enlarged(c(h_s), y_s.shape[-2:]), enlarged(c(h_t), x_t.shape[-2:])
            judged["source"] = h_s.detach(), class_evidence(p_s)
            judged["target"] = h_t.detach(), class_evidence(p_t)
            l_source = l_pixels(p_s / TEMPERATURE, y_s)
            l_adversarial = l_fine_grained(enlarged(d(h_t), x_t.shape[-2:]), judged["target"][1], "source")
            self.log_dict({"l_source": l_source.detach(), "l_adversarial": l_adversarial.detach()}, prog_bar=True)
            return l_source + self.weight * l_adversarial

        def d_loss() -> Tensor:
            losses = [
                l_fine_grained(enlarged(d(features), evidence.shape[-2:]), evidence, domain)  # type: ignore[arg-type]
                for domain, (features, evidence) in judged.items()
            ]
            return torch.stack(losses).mean()

        self.step("adversarial", labeller_loss)
        self.log("l_d", self.step("d", d_loss), prog_bar=True)

    def features_of(self, x_s: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the images of both domains; with pAdaIN the first have statistics of the second now and then."""
        f = self.labeller["f"]
        layers = [module for module in f.modules() if isinstance(module, PermutedAdaIN)]
        if not layers:
            return f(x_s), f(x_t)
        for layer in layers:
            layer.adversarial = True
        h_s = f(torch.cat([x_s, enlarged(x_t, x_s.shape[-2:])]))[: len(x_s)]
        for layer in layers:
            layer.eval()  # until the next batch
        return h_s, f(x_t)

    def l_labels(self, labeller: nn.ModuleDict | None, images: Tensor, label_map: Tensor | None) -> Tensor:
        """Cross-entropy of a labeller with the label map of images."""
        assert labeller is not None
        assert label_map is not None
        return l_pixels(logits_of(labeller, to_channels(images, self.in_channels)), label_map)

    @torch.no_grad()
    def find_labels(self) -> Tensor:
        """The classes that f and c see in the training images of the second domain, ``uint8`` [N, H, W]."""
        data, size = self.data.data("b", "train"), self.data.eval_batch_size
        found = []
        for begin in range(0, len(data), size):
            images = to_float(data.__getitems__([*range(begin, min(begin + size, len(data)))]).image.to(self.device))
            most, classes = logits_of(self.labeller, to_channels(images, self.in_channels)).softmax(1).max(1)
            found.append(torch.where(most < self.confidence, UNKNOWN, classes).byte().cpu())
        return torch.cat(found)

    # The trained method

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, K, H, W] of images [N, C, H, W] in [-1, 1] of either domain."""
        last = self.student is not None and bool(self.distilled)
        labeller = self.student if last else self.labeller
        assert labeller is not None
        return logits_of(labeller, to_channels(images, self.in_channels))

    def direction(
        self, task: str, source: str | None = None, target: str | None = None, guided: bool = False
    ) -> tuple[str, str]:
        """Images are labelled, not translated: by default they are of the second domain."""
        self.check_domains(source, target)
        domain = source or target or self.domains[-1]
        return domain, domain

    @property
    def tasks(self) -> dict[str, Callable[..., Any]]:
        return {"segment": self.segment, "overlay": self.overlay}

    def segment(self, images: Tensor) -> Tensor:
        """The class of every pixel, in the colours of the classes."""
        return self.painted(self(images).argmax(1))

    def overlay(self, images: Tensor, opacity: float = 0.5) -> Tensor:
        """The image with the colours of the classes over it.

        Args:
            images: float [N, C, H, W] in [-1, 1].
            opacity: share of the colours, from 0 to 1.
        """
        if not 0 <= opacity <= 1:
            refuse(self, "opacity", opacity, "give a share from 0 to 1.")
        return torch.lerp(to_channels(images, 3), self.segment(images), opacity)

    def painted(self, label_map: Tensor) -> Tensor:
        """Label maps, integers [N, H, W], in the colours of the classes, float [N, 3, H, W] in [-1, 1]."""
        colours = torch.tensor(self.palette, dtype=torch.uint8, device=label_map.device)
        colours = torch.cat([colours, colours.new_zeros(1, 3)])  # black where the class is unknown
        return to_float(colours[label_map.long().clamp(max=len(self.classes))].movedim(-1, 1))


def logits_of(labeller: nn.ModuleDict, images: Tensor) -> Tensor:
    """Logits [N, K, H, W] of images [N, C, H, W]."""
    return enlarged(labeller["c"](labeller["f"](images)), images.shape[-2:])


def _norms(labeller: nn.ModuleDict) -> Iterator[nn.Module]:
    """The BatchNorm layers of f."""
    return (module for module in labeller["f"].modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
