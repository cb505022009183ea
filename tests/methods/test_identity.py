"""The embedder of identities: its loss, and that reading the values teaches it."""

import os
import pickle

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from tests.test_ddp import spawn
from tests.toys import ToyPair, trainer, weights
from xdomain.batch import to_float
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


GOLDEN = {"IdentityEmbedder": lambda: (embedder(people(), reading=0.5), people())}


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
    model.naming, model.reader = 0.25, None
    model.training_step({"a": sample}, 0)
    torch.testing.assert_close(losses[1], 0.25 * naming)


def test_without_naming_only_the_reading_learns():
    model = embedder(people(), naming=0, reading=1.0)
    owned = {id(p) for group in model.build_optimizers()["c"].param_groups for p in group["params"]}
    assert owned == {id(p) for p in [*model.network.body.parameters(), *model.reader.parameters()]}
    with pytest.raises(UserError, match="and reading as well"):
        embedder(people(), naming=0)
    with pytest.raises(UserError, match="turns the features away"):
        embedder(people(), naming=1, reading=1.0, whiten=True)


@pytest.mark.parametrize("validations", [1, 0])
def test_a_fit_whitens_by_its_training_people_and_saves_it(validations):
    data = people(identities=40, images_per_identity=3, val_identities=10)
    network = FaceEmbedder(classes=1, image_size=16, width=2, dim=12)
    model = IdentityEmbedder(
        network, domains=("photo",), channels=(3,), image_size=16, naming=0, reading=1.0, whiten=True
    )
    fit = trainer(max_steps=4, val_check_interval=4, check_val_every_n_epoch=None, limit_val_batches=validations)
    fit.fit(model, data)
    images = to_float(torch.from_numpy(data.data("a", "train").images.copy()))
    model.eval()
    raw = model.raw_features(images).detach().double().view(40, 3, 12)
    learned = FaceEmbedder(classes=1, image_size=16, width=2, dim=12).whitening
    learned.fit(raw)
    assert not torch.equal(learned.matrix, torch.eye(12))
    metric, wanted = (w.matrix @ w.matrix.T for w in (model.network.whitening, learned))  # free of signs and rotations
    torch.testing.assert_close(metric, wanted, atol=1e-3 * wanted.abs().max().item(), rtol=1e-2)
    torch.testing.assert_close(model.network.whitening.mean, learned.mean, atol=1e-5, rtol=1e-4)
    before = model.network.whitening.matrix.clone()
    fit.test(model, data)
    if validations:
        fit.validate(model, data)
    assert torch.equal(model.network.whitening.matrix, before)  # only a fit learns
    assert "network.whitening.matrix" in model.state_dict()


def test_values_belong_to_the_identity_and_are_standardised():
    values = people(identities=400, images_per_identity=2).identity_values("a", "train")
    assert values.shape == (800, Avatars.identity_size)
    assert torch.equal(values[::2], values[1::2])
    continuous = values.std(0) > 0.9
    torch.testing.assert_close(values[:, continuous].mean(0), torch.zeros(continuous.sum()), atol=0.2, rtol=0)
    assert 25 < values.var(0).sum() < 45  # about one for every parameter


def train_whitened(rank, world_size, folder, port):
    """One rank of a fit; ranks see different images, so their running statistics differ."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = embedder(people(), naming=0, reading=1.0, whiten=True)
    run = trainer(
        max_steps=2,
        val_check_interval=2,
        check_val_every_n_epoch=None,
        strategy="ddp_find_unused_parameters_true",
        devices=world_size,
        run_dir=str(folder / "run"),
    )
    run.fit(model, people())
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(weights(model)))
    dist.destroy_process_group()


def test_ddp_ranks_share_the_whitening(tmp_path):
    first, second = spawn(train_whitened, tmp_path)
    whitening = {name for name in first if "whitening" in name}
    assert len(whitening) == 2
    for name in whitening:
        assert torch.equal(torch.as_tensor(first[name]), torch.as_tensor(second[name]))
    assert not torch.equal(torch.as_tensor(first["network.whitening.matrix"]), torch.eye(12))


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
