"""The segmentation judge: classes are the colours of a palette, pairs are needed."""

import pytest
import torch
from torch.nn import functional as F

from tests.methods.faces import Faces, fitted
from tests.toys import trainer
from xdomain.batch import to_float
from xdomain.data import FacadeWorld, ImageData
from xdomain.engines.facades import rgb_to_labels
from xdomain.errors import UserError
from xdomain.methods import Segmenter
from xdomain.networks import SegmentationNet
from xdomain.optim import GANAdam

COLOURS = ((255, 0, 0), (0, 0, 255))


class Painted(Faces):
    """Pictures that are red or blue all over with noise, and label maps that say which."""

    domains = ("picture", "map")
    pairs = paired = True
    palettes = {"map": COLOURS}  # noqa: RUF012

    def data(self, role, split):
        generator = torch.Generator().manual_seed(len(split))
        classes = torch.arange(12) % 2
        images = torch.tensor(COLOURS)[classes].view(12, 3, 1, 1).expand(-1, -1, 16, 16).float()
        if role == "a":
            images = (images + 40 * torch.randn(images.shape, generator=generator)).clamp(0, 255)
        return ImageData(images.byte().numpy())


def make(**options):
    torch.manual_seed(1)
    network = SegmentationNet(3, options.pop("classes", 2), width=4, depth=2)
    common = {"domains": Painted.domains, "channels": Painted.channels, "image_size": 16, "optimizer": GANAdam}
    return Segmenter(network, **{**common, **options})


GOLDEN = {"Segmenter": lambda: (make(), Painted())}


def test_it_learns_the_classes_of_the_palette():
    method = make(optimizer=lambda p: torch.optim.Adam(p, lr=1e-2))
    run = trainer(max_steps=30, limit_val_batches=0)
    run.fit(method, datamodule=Painted())
    images = to_float(Painted().data("a", "test").__getitems__(list(range(12))).image)
    found = method.eval()(images).argmax(1)
    assert (found == (torch.arange(12) % 2).view(12, 1, 1)).float().mean() > 0.95


def test_the_loss_is_cross_entropy_of_the_nearest_colour():
    method, data = make(), FacadeWorld(image_size=16, train_size=4, val_size=2, test_size=2, batch_size=2, pairs=True)
    method = make(classes=12, domains=data.domains)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    run = trainer(max_steps=1, limit_val_batches=0, log_every_n_steps=1)
    run.fit(method, datamodule=data)
    batch, _, _ = next(iter(data.train_dataloader()))
    assert torch.equal(batch["a"].position, batch["b"].position)
    logged = run.callback_metrics["loss"]
    method.load_state_dict(before)
    truth = rgb_to_labels(batch["b"].image).long() - 1
    torch.testing.assert_close(logged, F.cross_entropy(method.train()(to_float(batch["a"].image)), truth).detach())


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="learns from pairs, but Faces gives none"):
        fitted(make(domains=Faces.domains), data=Faces())
    with pytest.raises(UserError, match=r"network\.classes is 3, but map has 2: give the same number"):
        fitted(make(classes=3), data=Painted())
