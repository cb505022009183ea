"""Evaluation of the realism of translations: their distance from real images of the target domain."""

import pytorch_lightning as pl
import torch
from torch import Tensor

from xdomain.batch import Batch, to_channels
from xdomain.callbacks.evaluation import (
    BatchEvaluation,
    build_features,
    check_translates_alone,
    ends,
    fetch_features,
)
from xdomain.data.base import Split
from xdomain.errors import UserError
from xdomain.features import Extractor
from xdomain.methods import Method
from xdomain.metrics.distribution import FID, KID


class DistributionDistance(BatchEvaluation):
    """KID and FID in the test, between translated source images and real images of the target domain.

    The source is the first domain and the target the last, or as the method has it that translates the other way only.

    ``kid@F`` with its standard deviation over subsets ``kid_std@F``, ``fid@F``, and the numbers of images ``n_real@F``
    and ``n_fake@F``. ``kid_untranslated@F`` and ``fid_untranslated@F`` are those of the source images. Values are
    comparable only for the same feature network F and the same numbers of images.

    Args:
        features: the feature network F; see :func:`xdomain.features.build_extractor`.
    """

    watched = ("test",)

    def __init__(self, features: str = "random-conv") -> None:
        self.features = features
        self._extractor: Extractor | None = None

    def check(self, module: Method, split: Split) -> None:
        check_translates_alone(self, module, _direction(module))
        if len(module.domains) != 2:
            raise UserError(f"DistributionDistance needs two domains, but the data has {module.domains[0]}: remove it.")
        self._extractor = self._extractor or build_features(self.features)
        if split == "test":
            for role, domain in zip(module.data.roles, module.domains, strict=True):
                if (count := len(module.data.data(role, "test"))) < 2:
                    raise UserError(
                        f"DistributionDistance needs 2 test images of {domain}, which has {count}: add some."
                    )

    def begin(self, trainer: pl.Trainer, module: Method) -> None:
        if trainer.testing:
            self.extractor = fetch_features(self._extractor or build_features(self.features), trainer, module)
            suffixes = ("", "_untranslated")
            self.kid = {suffix: KID(self.extractor).to(module.device) for suffix in suffixes}
            self.fid = {suffix: FID(self.extractor).to(module.device) for suffix in suffixes}

    def add(self, module: Method, batch: Batch, testing: bool) -> None:
        source, target = _direction(module)
        shown: dict[str, Tensor] = {}
        if (own := batch.get(module.data.role_of(source))) is not None:
            shown[""] = module.translate(own.image, source, target)
            shown["_untranslated"] = to_channels(own.image, shown[""].shape[1])
        for suffix, images in shown.items():
            self._update(suffix, images, real=False)
        if (wanted := batch.get(module.data.role_of(target))) is not None:
            for suffix in self.kid:
                self._update(suffix, wanted.image, real=True)

    def _update(self, suffix: str, images: Tensor, real: bool) -> None:
        features = self.extractor.features(images.clamp(-1, 1))
        self.kid[suffix].update(features, real=real)
        self.fid[suffix].update(features, real=real)

    def report(self, trainer: pl.Trainer, testing: bool) -> dict[str, Tensor]:
        if not testing:
            return {}
        values: dict[str, Tensor] = {}
        name = self.extractor.name
        for suffix in self.kid:
            mean, deviation = self.kid[suffix].compute()
            values |= {f"kid{suffix}@{name}": mean, f"fid{suffix}@{name}": self.fid[suffix].compute().float()}
            if not suffix:
                values[f"kid_std@{name}"] = deviation
        real, fake = self.kid[""].n
        return values | {f"n_real@{name}": torch.tensor(float(real)), f"n_fake@{name}": torch.tensor(float(fake))}


def _direction(module: Method) -> tuple[str, str]:
    """The usual direction, or the only one that the method has."""
    usual = ends(module)
    return usual if usual in module.directions or not module.directions else module.directions[0]
