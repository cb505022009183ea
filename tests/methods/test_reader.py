"""Reading parameters of an engine from images."""

from functools import partial

import pytest
import torch

from tests.methods.test_tos import Discs, Pair, sgd
from tests.toys import trainer, weights
from xdomain.batch import to_float
from xdomain.data import ImageData
from xdomain.errors import UserError
from xdomain.losses import l_parameters
from xdomain.methods import ParameterReader
from xdomain.networks import ParameterClassifier
from xdomain.networks.parameters import activated
from xdomain.optim import GANAdam

SIZE, COLUMNS = Pair.image_size, Discs.schema.size


class Pictures(Pair):
    """The pictures of the engine alone, as the first domain."""

    domains, channels = ("discs",), (1,)

    def drawn_from(self, role, split, schema):
        return super().drawn_from("b", split, schema)

    def data(self, role, split):
        return super().data("b", split)


class Unknown(Pictures):
    """The same, of which nobody knows the parameters."""

    def drawn_from(self, role, split, schema):
        return None

    def data(self, role, split):
        return ImageData(Pictures().data(role, split).images)


def reader(**options):
    torch.manual_seed(1)
    network = ParameterClassifier(1, COLUMNS, SIZE, width=4, dim=16)
    common = {"domains": Pictures.domains, "channels": Pictures.channels, "image_size": SIZE}
    return ParameterReader(**{"network": network, "engine": Discs(), "optimizer": sgd, **common, **options})


GOLDEN = {"ParameterReader": lambda: (reader(optimizer=GANAdam), Pictures())}


def fitted(method, steps, data=None):
    run = trainer(max_steps=steps, limit_val_batches=0, log_every_n_steps=1)
    run.fit(method, datamodule=data or Pictures())
    return run


def test_the_loss_is_that_of_the_true_parameters():
    method = reader()
    batch, _, _ = next(iter(Pictures().train_dataloader()))
    truth = Discs.schema.one_hot(Pictures().drawn_from("a", "train", Discs.schema))[batch["a"].position]
    expected = l_parameters(method.network(to_float(batch["a"].image)), truth, Discs.schema.layout).item()
    before = weights(method)
    run = fitted(method, 1)
    assert run.callback_metrics["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert not any(torch.equal(p, before[name]) for name, p in method.named_parameters())


def test_it_reads_what_its_network_says():
    method = reader()
    images = torch.rand(6, 1, SIZE, SIZE) * 2 - 1
    v = activated(method.network(images), Discs.schema.layout)
    assert torch.equal(method.read(images), Discs.schema.from_one_hot(v))
    torch.testing.assert_close(method.read(images.repeat(1, 3, 1, 1)), method.read(images))


def test_it_learns():
    method = reader(optimizer=partial(GANAdam, lr=3e-3))
    data = Pictures()
    images, u = to_float(torch.from_numpy(data.data("a", "train").images)), data.drawn_from("a", "train", Discs.schema)
    before = Discs.schema.errors(method.read(images), u).mean()
    fitted(method, 150)
    assert Discs.schema.errors(method.read(images), u).mean() < before / 2


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=f"network.classes is 3, but the parameters of discs take {COLUMNS} columns"):
        reader(network=ParameterClassifier(1, 3, SIZE, width=4, dim=16))
    with pytest.raises(UserError, match="ParameterReader needs images with the parameters of discs, which discs does"):
        fitted(reader(), 1, Unknown())
