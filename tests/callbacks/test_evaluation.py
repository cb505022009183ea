"""Who is handed batches, what limits them, and that what an evaluation lacks is found before the first batch."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from tests.callbacks.judges import Held
from tests.callbacks.test_accuracy import Negative, Reader, Shades
from tests.callbacks.test_content import Blocks, Surgeon
from tests.callbacks.test_guided_accuracy import CLASSIFIERS, TILTS, Brush
from tests.callbacks.test_guided_accuracy import Judge as ShadeJudge
from tests.callbacks.test_guided_accuracy import Shades as Colours
from tests.methods.single import OneImage, facts
from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.callbacks import (
    AnalogyQuality,
    AttributeAccuracy,
    ClassificationAccuracy,
    ContentMasks,
    ContentTransfer,
    DistributionDistance,
    GuidedAccuracy,
    IdentityRetrieval,
    IdentityVerification,
    SampleGrid,
    SampleQuality,
    SampleSheet,
    TransferAccuracy,
    TransferPictures,
)
from xdomain.callbacks.evaluation import DrawnEvaluation
from xdomain.data import ImageData
from xdomain.errors import UserError
from xdomain.methods import Classifier, SinGAN


class Shown(ToyPair):
    """Counts the images that the loaders of the validation and test parts hand out."""

    def __init__(self, **options):
        super().__init__(**options)
        self.shown = {"val": 0, "test": 0}

    def data(self, role, split):
        data = super().data(role, split)
        if split == "train":
            return data
        counted = type("Counted", (ImageData,), {"__getitems__": self._counting(split)})
        return counted(data.images, data.labels)

    def _counting(self, split):
        def getitems(data, indices):
            self.shown[split] += len(indices)
            return ImageData.__getitems__(data, indices)

        return getitems


class Nothing(DrawnEvaluation):
    """Looks at no image."""

    def measure(self, trainer, module):
        return {"one": torch.tensor(1.0)}


class Watching(pl.Callback):
    """A callback of somebody's own."""

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, *_):
        assert batch["a"].image.shape[1:] == (3, 8, 8)


class WithStep(ToyGAN):
    def validation_step(self, batch, batch_idx):
        assert set(batch) <= {"a", "b"}


class WithHook(ToyGAN):
    def on_test_batch_start(self, batch, batch_idx, dataloader_idx=0):
        assert set(batch) <= {"a", "b"}


def shown(callbacks, method=None, **options):
    data = Shown()
    run = trainer(max_steps=6, callbacks=callbacks, **options)
    run.fit(method or ToyGAN(), datamodule=data)
    run.test(method or ToyGAN(), datamodule=data, verbose=False)
    return run, data.shown


@pytest.mark.parametrize("limit", [1.0, 0.1, 0.3, 1 / 49, 0.9, 3])
def test_nobody_is_handed_batches(limit):
    """A validation still takes place: its metrics, and the checkpoints after it."""
    run, read = shown([Nothing()], limit_val_batches=limit, limit_test_batches=limit, monitor="val/one")
    assert read == {"val": 0, "test": 0}
    assert run.callback_metrics["one"] == 1
    assert {path.name for path in (run.run_dir / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}


@pytest.mark.parametrize(
    ("callbacks", "method", "options", "expected"),
    [
        ([Watching()], ToyGAN(), {}, {"val": 40, "test": 0}),
        ([], WithStep(), {}, {"val": 40, "test": 0}),
        ([], WithHook(), {}, {"val": 0, "test": 20}),
        ([DistributionDistance()], ToyGAN(), {}, {"val": 0, "test": 20}),
        ([], ToyGAN(), {"enable_progress_bar": True}, {"val": 0, "test": 0}),
        ([Watching()], ToyGAN(), {"limit_val_batches": 1}, {"val": 16, "test": 0}),
        ([Nothing()], WithStep(), {"limit_val_batches": 0}, {"val": 0, "test": 0}),
    ],
)
def test_who_looks_is_handed_batches(callbacks, method, options, expected):
    _, read = shown(callbacks, method, **options)
    assert read == expected


def guided():
    callback = GuidedAccuracy(CLASSIFIERS, guides=1)
    callback.judges = {domain: Held(ShadeJudge(tilt)) for domain, tilt in TILTS.items()}
    return callback


@pytest.mark.parametrize(("limit", "expected"), [(1.0, 60), (2, 8), (0.5, 30), (0.001, 1), (99, 60)])
def test_limits_hold_for_drawn_images(limit, expected):
    run = trainer(callbacks=[guided()], limit_test_batches=limit)
    run.test(Brush(), datamodule=Colours(), verbose=False)
    assert run.callback_metrics["n/ink_to_paint@paint-judge+more"] == expected


def test_a_limit_of_one_image_leaves_no_distribution():
    run = trainer(callbacks=[ContentTransfer(pairs=20)], limit_test_batches=1)
    run.test(Surgeon(), datamodule=Blocks(), verbose=False)
    assert run.callback_metrics["n_fake/smile_to_glasses@random-conv"] == 7
    run = trainer(callbacks=[ContentTransfer(pairs=20)], limit_test_batches=0.01)
    run.test(Surgeon(), datamodule=Blocks(), verbose=False)
    assert not [name for name in run.callback_metrics if name.startswith("kid")]


class Folders(ToyPair):
    """Two folders of somebody's own: nothing is known of the images."""

    domains, channels = ("stones", "nature"), (3, 3)

    def data(self, role, split):
        rng = np.random.default_rng([ord(role), *split.encode()])
        return ImageData(rng.integers(0, 256, (9, 3, 16, 16), dtype=np.uint8))


class Painter(Surgeon):
    """Transfers content between two folders."""

    def __init__(self):
        super().__init__(("stones", "nature"), guided=False)
        self.contents = self.domains

    def separate(self, images, domain):
        return images[:, 0, :2, 0]

    def translate(self, images, source, target, guide=None, task="transfer", **options):
        return images * (1.0 if source == target else -0.5)


ANSWERS = ("_untranslated", "_blurred", "_random", "_mean")


def test_images_of_which_nothing_is_known_have_measures_without_labels(monkeypatch):
    """The judges of a recipe for faces are left out with a word, before they are trained."""
    monkeypatch.setattr("xdomain.callbacks.content.fetch_judge", None)
    callbacks = [
        ContentTransfer("avatar_smile_glasses_classifier", "celeba_attributes", "avatar_judge", pairs=9, val_pairs=4),
        ContentMasks("avatar_attributes"),
    ]
    run = trainer(callbacks=callbacks, max_steps=1)
    with pytest.warns(UserWarning, match="avatar_judge learns from Avatars, but the data is Folders"):
        run.validate(Painter(), datamodule=Folders(), verbose=False)
    validated = {name.split("/")[1] for name in run.callback_metrics}
    assert run.callback_metrics["val/l1_reconstruction/stones"] == 0
    run.test(Painter(), datamodule=Folders(), verbose=False)
    names = {name.split("/")[0] for name in run.callback_metrics if not name.startswith("val/")}
    assert validated == names
    compared = {f"{key}{answer}" for key in ("kid", "fid") for answer in ("", *ANSWERS)}
    assert names == compared | {"blur", "kid_std", "n_real", "n_fake", "probe", "l1_reconstruction"}


def one(**options):
    return type("One", (Shades,), {"domains": ("red",), "channels": (3,), **options})()


def unlabelled(kind, **options):
    return type("Unlabelled", (kind,), {"labelled": False, "unlabelled": ("a", "b"), **options})()


def classifier(kind=Reader):
    return Classifier(kind(), domains=("red",), channels=(3,), image_size=8)


def more(data, role):
    """The same with labels of the target that no classifier of ten classes knows."""
    return data if role == "a" else ImageData(data.images, data.labels + 12)


REFUSED = [
    (
        lambda: TransferAccuracy("street_classifier"),
        Negative,
        lambda: unlabelled(Shades),
        "needs labels, but red has no",
    ),
    (lambda: TransferAccuracy("nobody"), Negative, Shades, "nobody"),
    (
        lambda: TransferAccuracy("street_classifier"),
        Negative,
        lambda: type("Twelve", (Shades,), {"a": tuple((0.0, label) for label in range(12))})(),
        "a classifier of 10 classes, but red has labels from 0 to 11",
    ),
    (lambda: TransferAccuracy("street_classifier"), Brush, Colours, "Brush needs them"),
    (lambda: GuidedAccuracy({"ink": "nobody"}), Brush, Colours, "nobody"),
    (
        lambda: GuidedAccuracy({"ink": "street_classifier"}),
        Brush,
        lambda: unlabelled(Colours),
        "paint has none: remove",
    ),
    (
        lambda: GuidedAccuracy({"paint": "street_classifier"}),
        Brush,
        lambda: type(
            "More", (Colours,), {"data": lambda self, role, split: more(Colours.data(self, role, split), role)}
        )(),
        "a classifier of 10 classes, but paint has labels from 12 to 14",
    ),
    (DistributionDistance, classifier, one, "needs two domains"),
    (DistributionDistance, Brush, Colours, "Brush needs them"),
    (lambda: DistributionDistance("nobody"), Negative, Shades, "nobody"),
    (lambda: ContentTransfer(attributes="avatar_attributes"), Surgeon, Blocks, "learns from Avatars, but the data is"),
    (lambda: ContentTransfer(directions=[["smile", "hat"]]), Surgeon, Blocks, "unknown domain 'hat'"),
    (lambda: ContentTransfer(features="nobody"), Surgeon, Blocks, "nobody"),
    (ContentTransfer, Negative, Shades, "transfers no content"),
    (TransferPictures, Negative, Shades, "transfers no content"),
    (lambda: IdentityRetrieval("avatar_judge"), Negative, Shades, "data that can draw strangers; red cannot"),
    (IdentityVerification, classifier, lambda: one(labelled=False), "needs identities, but red has none: remove it"),
    (IdentityVerification, Negative, Shades, "is for embedders, not for Negative"),
    (ClassificationAccuracy, classifier, lambda: one(labelled=False), "needs labels, but red has none"),
    (ClassificationAccuracy, classifier, lambda: one(a=((0.0, 3), (0.0, 1))), "a classifier of 3 classes, but red has"),
    (ClassificationAccuracy, Negative, Shades, "is for classifiers, not for Negative"),
    (AttributeAccuracy, classifier, one, "is for classifiers of attributes, not for Classifier"),
    (lambda: SampleGrid(directions=[("red", "blue")]), Negative, Shades, "unknown domain 'blue'"),
    (SampleGrid, Brush, Colours, "Brush needs them"),
    (SampleQuality, Negative, Shades, "makes no random samples"),
    (SampleSheet, Negative, Shades, "makes no random samples"),
    (AnalogyQuality, classifier, one, "needs two images, but the data has red only"),
]


@pytest.mark.parametrize(("callback", "method", "data", "message"), REFUSED)
@pytest.mark.parametrize("command", ["validate", "test"])
def test_what_is_lacking_is_found_before_the_first_batch(callback, method, data, message, command, monkeypatch):
    def began(*_):
        raise AssertionError

    made = callback()
    for hook in ("on_validation_start", "on_test_start"):
        monkeypatch.setattr(type(made), hook, began)
    with pytest.raises(UserError, match=message):
        getattr(trainer(callbacks=[made]), command)(method(), datamodule=data())


def test_a_training_does_not_begin():
    class Never(ToyGAN):
        def training_step(self, batch, batch_idx):
            raise AssertionError

    with pytest.raises(UserError, match="needs labels, but red has none"):
        trainer(max_steps=1, callbacks=[TransferAccuracy("street_classifier")]).fit(Never(), unlabelled(Shades))


def test_samples_of_one_image_pass_the_checks():
    data = OneImage()
    method = SinGAN(min_size=12, width=4, layers=3, iterations=1, **facts(data))
    for callback in (SampleQuality(), SampleSheet()):
        method.trainer = trainer(max_steps=1)
        method.trainer.datamodule = data
        callback.setup(method.trainer, method, "fit")


class OnlyTest(Blocks):
    """A root with test images only."""

    def load(self, split):
        if split != "test":
            raise UserError(f"there are no {split} images")
        return super().load(split)


def test_without_training_images_probes_are_left_out():
    run = trainer(callbacks=[ContentTransfer(pairs=9)])
    with pytest.warns(
        UserWarning, match=r"probe/... of ContentTransfer needs training images and is left out: there are"
    ):
        run.test(Surgeon(), datamodule=OnlyTest(), verbose=False)
    assert run.callback_metrics["l1/smile_to_glasses"] < 1e-6
    assert not [name for name in run.callback_metrics if name.startswith("probe")]


def test_without_training_images_the_nearest_neighbours_are_those_of_the_test():
    class Some(Shades):
        def data(self, role, split):
            if split == "train":
                raise UserError("there are no training images")
            return super().data(role, split)

    callback = TransferAccuracy("reader")
    callback.helper = Held(Reader())
    Shades.root = None
    run = trainer(callbacks=[callback])
    with pytest.warns(UserWarning, match="accuracy@1nn-train of TransferAccuracy needs training images"):
        run.test(Negative(), datamodule=Some(), verbose=False)
    assert run.callback_metrics["accuracy@1nn-test"] == pytest.approx(2 / 3)
    assert "accuracy@1nn-train" not in run.callback_metrics


def test_target_images_without_labels_are_not_compared():
    class Some(Shades):
        def data(self, role, split):
            data = super().data(role, split)
            return data if role == "a" else ImageData(data.images)

    callback = TransferAccuracy("reader")
    callback.helper = Held(Reader())
    Shades.root = None
    run = trainer(callbacks=[callback])
    run.test(Negative(), datamodule=Some(), verbose=False)
    assert run.callback_metrics["accuracy@reader"] == pytest.approx(5 / 7)
    assert not [name for name in run.callback_metrics if "real" in name or "1nn" in name]
