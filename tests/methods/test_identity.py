"""The embedder of identities: its loss, and that reading the values teaches it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.toys import ToyPair, trainer
from xdomain.data import Avatars
from xdomain.errors import UserError
from xdomain.methods import IdentityEmbedder
from xdomain.networks import FaceEmbedder


def people(**options):
    sizes = {"identities": 6, "images_per_identity": 4, "val_identities": 2, "test_identities": 2, "image_size": 16}
    return Avatars(domains={"photo": "*"}, batch_size=8, **{**sizes, **options})


def embedder(data, **options):
    network = FaceEmbedder(classes=6, image_size=16, width=2, dim=12)
    model = IdentityEmbedder(network, domains=("photo",), channels=(3,), image_size=16, **options)
    model.trainer = trainer(max_steps=1)
    model.trainer.datamodule = data
    return model


def test_loss_is_naming_plus_reading(monkeypatch):
    data = people()
    model = embedder(data, reading=0.5)
    model.on_fit_start()
    losses = []
    monkeypatch.setattr(model, "step", lambda name, loss: losses.append(loss()) or losses[-1].detach())
    monkeypatch.setattr(model, "log", lambda *args, **options: None)
    monkeypatch.setattr(model, "log_dict", lambda *args, **options: None)
    rows = [3, 20, 7]
    sample = data.data("a", "train").__getitems__(rows)
    sample = sample._replace(image=sample.image.float() / 127.5 - 1)
    model.eval()
    model.training_step({"a": sample}, 0)
    features = model.network.features(sample.image)
    naming = F.cross_entropy(model.network.head(features), torch.tensor([0, 5, 1]))
    read = features @ model.reader.weight.T + model.reader.bias
    reading = (read - data.identity_values("a", "train")[rows]).square().mean()
    torch.testing.assert_close(losses[0], naming + 0.5 * reading)


def test_values_belong_to_the_identity_and_are_standardised():
    values = people(identities=400, images_per_identity=2).identity_values("a", "train")
    assert values.shape == (800, Avatars.identity_size)
    assert torch.equal(values[::2], values[1::2])
    continuous = values.std(0) > 0.9
    torch.testing.assert_close(values[:, continuous].mean(0), torch.zeros(continuous.sum()), atol=0.2, rtol=0)
    assert 25 < values.var(0).sum() < 45  # about one for every parameter


def test_only_what_was_read_is_saved_as_the_network():
    model = embedder(people(), reading=1.0)
    optimizer = model.build_optimizers()["c"]
    owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert owned == {id(p) for p in model.parameters()}
    assert embedder(people()).reader is None
    assert isinstance(model.network, nn.Module)


def test_data_without_values_is_refused():
    with pytest.raises(UserError, match=r"reading is 1\.0, but ToyPair does not know the values"):
        embedder(ToyPair(), reading=1.0).on_fit_start()
