"""All metrics of the evaluations, by name and value: a change that was not meant is seen here.

Where values are meant to change, write ``values.json`` again:

    python -m tests.callbacks.test_values [NAME ...]
"""

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from torch import nn

from tests.callbacks.judges import Held
from tests.callbacks.test_accuracy import Reader, Shades
from tests.callbacks.test_content import Blocks, DomainJudge, Judge, Surgeon
from tests.callbacks.test_guided_accuracy import Brush
from tests.callbacks.test_guided_accuracy import Judge as ShadeJudge
from tests.callbacks.test_guided_accuracy import Shades as Colours
from tests.callbacks.test_identity import Copying, People, pair
from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.callbacks import (
    AttributeAccuracy,
    ClassificationAccuracy,
    ContentMasks,
    ContentTransfer,
    DistributionDistance,
    GuidedAccuracy,
    IdentityRetrieval,
    IdentityVerification,
    TransferAccuracy,
)
from xdomain.methods import DIDD, AttributeClassifier, Classifier, MaskedTransfer

FILE = Path(__file__).with_name("values.json")
HOW = "run `python -m tests.callbacks.test_values {}` if that was meant, and say in the commit why"
TARGETS = {"which": ("smile",), "worn": ("glasses",), "what": ("Eyeglasses", "Smiling"), "eye": ("Eyeglasses",)}


class Eye(nn.Module):
    """A convolutional classifier of one attribute."""

    in_channels, classes, dim = 3, 1, 1

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1))

    def features(self, images):
        return images.flatten(1)

    def forward(self, images):
        return self.head(self.body(images))


def judge(name):
    torch.manual_seed(1)
    made = {
        "which": lambda: DomainJudge("smile", "glasses"),
        "worn": lambda: DomainJudge("glasses", "smile"),
        "what": lambda: Judge("glasses", "smile"),
        "who": Judge,
        "eye": Eye,
        "reader": Reader,
        "ink_judge": lambda: ShadeJudge([9.0, -5.0, 0.0]),
        "paint_judge": lambda: ShadeJudge([-4.0, 12.0, 1.0]),
    }
    return Held(made[name]()).eval()


class Negative(ToyGAN):
    def translate(self, images, source, target, **options):
        return -images[:, :1]


def made(kind, domains, **options):
    torch.manual_seed(0)
    facts = {"domains": domains, "channels": (3,) * len(domains), "image_size": 16}
    return kind(**facts, **options)


def content(judged="which"):
    return ContentTransfer(judged, "what", "who", pairs=24, val_pairs=9)


CASES = {
    "surgeon": lambda: (Surgeon(tint=0.1), Blocks(), [content()]),
    "lazy and leaky": lambda: (Surgeon(lazy=True, leaky=True), Blocks(count=200), [content()]),
    "one direction": lambda: (
        Surgeon(("glasses", "plain"), masked=True),
        Blocks("glasses"),
        [ContentTransfer("worn", "what", pairs=20, directions=[["glasses", "plain"]], seed=3), ContentMasks("eye")],
    ),
    "no judges": lambda: (Surgeon(tint=0.1), Blocks(), [ContentTransfer(pairs=12)]),
    "didd": lambda: (made(DIDD, ("smile", "glasses"), width=4, sep=2), Blocks(), [content(), ContentMasks("eye")]),
    "masked": lambda: (
        made(MaskedTransfer, ("glasses", "plain"), width=4, sep=3),
        Blocks("glasses"),
        [content("worn"), ContentMasks("eye", images=20)],
    ),
    "guided accuracy": lambda: (
        Brush(),
        Colours(),
        [GuidedAccuracy({"ink": "ink_judge", "paint": "paint_judge"}, guides=5, pairs=40)],
    ),
    "retrieval": lambda: (Copying(), pair(), [IdentityRetrieval("who", distractors=40, val_distractors=20)]),
    "transfer accuracy": lambda: (Negative(), Shades(eval_batch_size=2), [TransferAccuracy("reader")]),
    "distribution": lambda: (Negative(), ToyPair(), [DistributionDistance()]),
    "classifier": lambda: (
        Classifier(Reader(), domains=("red",), channels=(3,), image_size=8),
        type("One", (Shades,), {"domains": ("red",), "channels": (3,)})(),
        [ClassificationAccuracy()],
    ),
    "attributes": lambda: (
        made(AttributeClassifier, ("face",), network=Eye(), targets={"Eyeglasses": "Eyeglasses"}),
        Blocks({"face": "*"}),
        [AttributeAccuracy()],
    ),
    "verification": lambda: (made(Classifier, ("photo",), network=Eye()), People(), [IdentityVerification()]),
}


@contextmanager
def held_judges(folder):
    """Judges that have their weights, and a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDOMAIN_CACHE", str(folder / "cache"))
        patch.setattr("xdomain.callbacks.evaluation.Helper", judge)
        for module in ("content", "content_masks"):
            patch.setattr(f"xdomain.callbacks.{module}.helper_targets", TARGETS.__getitem__)
        patch.setattr("xdomain.callbacks.content_checks.helper_data", lambda source: None)
        Shades.root = ToyPair.root = None
        yield


def measured(case, folder):
    """All metrics of a validation and of a test."""
    torch.set_num_threads(1)
    with held_judges(folder):
        method, data, callbacks = CASES[case]()
        run = trainer(callbacks=callbacks, run_dir=str(folder / "run"))
        run.validate(method, datamodule=data, verbose=False)
        values = {name: value.item() for name, value in run.callback_metrics.items()}
        run.test(method, datamodule=data, verbose=False)
        return values | {name: value.item() for name, value in run.callback_metrics.items()}


@pytest.mark.parametrize("case", CASES)
def test_names_and_values_stay(case, tmp_path):
    stored, values = json.loads(FILE.read_text())[case], measured(case, tmp_path)
    assert values.keys() == stored.keys(), HOW.format(repr(case))
    assert values == pytest.approx(stored, rel=1e-4, abs=1e-6, nan_ok=True), HOW.format(repr(case))


def main():
    """Write the values of these cases, or of all, into the file."""
    stored = json.loads(FILE.read_text()) if FILE.exists() else {}
    for case in sys.argv[1:] or CASES:
        with TemporaryDirectory() as folder:
            stored[case] = measured(case, Path(folder))
    lines = [
        f" {json.dumps(case)}: {json.dumps(stored[case], sort_keys=True)}"
        for case in sorted(stored.keys() & CASES.keys())
    ]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
