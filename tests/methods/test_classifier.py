"""The classifier: one step against straight PyTorch, grey and RGB, refused networks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD

from tests.fakes.folders import write_flat
from tests.toys import ToyPair, trainer
from xdomain.commands.main import main
from xdomain.data import ImageData
from xdomain.errors import UserError
from xdomain.features import Helper
from xdomain.methods import Classifier
from xdomain.networks import HalfResolutionClassifier


class Flat(nn.Module):
    in_channels, classes, dim = 3, 3, 192

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(192, 3)

    def forward(self, images):
        return self.head(images.flatten(1))


def make(network, **options):
    linked = {"domains": ("red",), "channels": (3,), "image_size": 8}
    return Classifier(network, optimizer=lambda p: SGD(p, lr=0.1), **linked, **options)


GOLDEN = {"Classifier": lambda: (make(Flat(), label_smoothing=0.1), ToyPair())}


def test_one_step_equals_straight_pytorch():
    torch.manual_seed(0)
    network, straight = Flat(), Flat()
    straight.load_state_dict(network.state_dict())
    data = ToyPair()
    trainer(max_steps=1, limit_val_batches=0).fit(make(network, label_smoothing=0.1), datamodule=data)
    batch, _, _ = next(iter(data.train_dataloader()))
    sample = data.on_after_batch_transfer(batch, 0)["a"]
    F.cross_entropy(straight(sample.image), sample.label, label_smoothing=0.1).backward()
    with torch.no_grad():
        expected = straight.head.weight - 0.1 * straight.head.weight.grad
    torch.testing.assert_close(network.head.weight.detach(), expected)


class Twelve(ToyPair):
    """Twelve classes."""

    def data(self, role, split):
        data = super().data(role, split)
        return ImageData(data.images, np.arange(len(data)) % 12)


def test_a_network_that_does_not_fit_is_refused_before_the_first_batch():
    for network, data, message in (
        (Flat(), Twelve(), r"network.classes is 3, but red has labels from 0 to 11: give 12"),
        (
            HalfResolutionClassifier(classes=3),
            ToyPair(),
            "HalfResolutionClassifier, which does not take images of 8x8 pixels",
        ),
    ):
        run = trainer(max_steps=1)
        with pytest.raises(UserError, match=message):
            run.fit(make(network), datamodule=data)
        assert run.global_step == 0


def test_grey_images_are_repeated_for_an_rgb_network():
    model, grey = make(Flat()), torch.rand(2, 1, 8, 8)
    assert torch.equal(model(grey), model(grey.expand(-1, 3, -1, -1)))


def test_other_channels_are_refused():
    network = Flat()
    network.in_channels = 9
    with pytest.raises(UserError, match="in_channels is 9"):
        make(network)


def test_the_classifier_of_the_docs(tmp_path):
    """Twelve classes at 64 pixels, in folders, by the recipe of the page; a few steps of it."""
    page = (Path(__file__).parents[2] / "docs" / "use_your_own_images.md").read_text()
    recipe = next(part for part in page.split("```yaml\n")[1:] if "LabelledFolders" in part).split("```")[0]
    Path("my_classifier.yaml").write_text(recipe)
    for label in range(12):
        for number in range(4):
            write_flat(Path("my_images") / f"class_{label:02d}" / f"{number}.png", 20 * label, 64)
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
    short = ["--trainer.max_steps", "2", "--trainer.val_check_interval", "1", "--data.batch_size", "8"]
    assert main(["fit", "--config", "my_classifier.yaml", "--config", "cpu", *short, *quiet]) == 0
    (folder,) = Path("runs").glob("*/0001")
    helper = Helper(str(folder))
    assert helper.classes == 12
    assert helper(torch.zeros(1, 3, 64, 64)).shape == (1, 12)
