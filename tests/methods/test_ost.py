"""One-shot translation: which losses reach which layers, in both forms of the authors' code."""

import copy

import numpy as np
import pytest
import torch

from tests.methods.faces import Faces, Watch, assert_gradients, fitted, moved, owners
from tests.running.test_resume import differences
from tests.toys import trainer
from xdomain.batch import to_float
from xdomain.data import ImageData
from xdomain.errors import UserError
from xdomain.methods import OST
from xdomain.networks import PatchDiscriminator
from xdomain.networks.ost import DigitAutoencoders, DigitDiscriminator, DrawingAutoencoders
from xdomain.optim import GANAdam


class OneAndMany(Faces):
    """One image of the first domain, twelve of the second."""

    def data(self, role, split):
        whole = super().data(role, split)
        return whole.keep(np.arange(1)) if role == "a" and split == "train" else whole


class OneDigit(OneAndMany):
    """The same with 32 pixels."""

    image_size = 32

    def data(self, role, split):
        images = super().data(role, split)
        return ImageData(images.images.repeat(2, 2).repeat(2, 3), images.labels)


def drawing(channels):
    return DrawingAutoencoders(channels, width=4, halvings=2, private_halvings=1, blocks=1)


def digits(channels):
    return DigitAutoencoders(channels, width=4)


def discriminator(channels):
    return PatchDiscriminator(channels, width=4, layers=1)


def digit_discriminator(channels):
    return DigitDiscriminator(channels, width=4)


def make(protocol, **options):
    torch.manual_seed(1)
    data = OneDigit if protocol == "digits" else OneAndMany
    networks = (digits, digit_discriminator) if protocol == "digits" else (drawing, discriminator)
    common = {"domains": data.domains, "channels": data.channels, "image_size": data.image_size, "protocol": protocol}
    steps = {"autoencoder_steps": 2, "steps": 2, "optimizer": lambda p: torch.optim.SGD(p, lr=0.1)}
    settings = {"autoencoders": networks[0], "discriminator": networks[1], **common, **steps, **options}
    return OST(**settings), data(batch_size=1 if protocol == "digits" else 2)


GOLDEN = {
    "OST": lambda: make("drawing", optimizer=GANAdam),
    "OST with digits": lambda: make("digits", optimizer=GANAdam),
}


def score(scores, real):
    return ((scores - real) ** 2).mean()


def batches(data, steps):
    loader = iter(data.train_dataloader())
    return [tuple(to_float(batch[role].image) for role in "ab") for batch, _, _ in (next(loader) for _ in range(steps))]


def updates_of(method, data, steps):
    watch = Watch()
    fitted(method, steps, data=data, callbacks=[watch])
    return watch.updates


def test_phase_one_of_drawings_trains_the_autoencoder_of_the_second_domain():
    method, data = make("drawing")
    m = copy.deepcopy(method)
    g, d = updates_of(method, data, 1)
    ((_, y),) = batches(data, 1)
    z = m.G.encode(y, 1)
    yy = m.G.decode(z, 1)
    loss = score(m.D_pretrained(yy), 1) + 10 * (yy - y).abs().mean() + 0.1 * (z**2).mean()
    assert (g.name, d.name) == ("pretrain", "d_pretrained")
    assert not any(name.startswith(("G.private_encoders.0", "G.private_decoders.0")) for name in g.gradients)
    assert_gradients(g.gradients, loss, m, noise=1e-4)
    judged = (score(m.D_pretrained(y), 1) + score(m.D_pretrained(yy.detach()), 0)) / 2
    assert_gradients(d.gradients, judged, m, noise=1e-4)


@pytest.mark.parametrize("cycle", ["none", "one_way", "two_way"])
def test_phase_two_of_drawings_keeps_the_losses_of_x_out_of_shared_layers(cycle):
    method, data = make("drawing", autoencoder_steps=1, cycle=cycle)
    updates = updates_of(method, data, 2)[2:]
    assert [update.name for update in updates] == ["x", "y", "d"]
    of_x, of_y, of_d = updates
    m, _ = make("drawing", cycle=cycle)
    m.load_state_dict(of_x.state)
    x, y = (images[:1] for images in batches(data, 2)[1])
    G = m.G
    z = G.encode(x, 0)
    xx, xy = G.decode(z, 0), G.decode(z, 1)
    loss = score(m.D_Y(xy), 1) + (xx - x).abs().mean()
    if cycle != "none":
        loss = loss + 10 * (G.decode(G.encode(xy, 1), 0) - x).abs().mean()
    if cycle == "two_way":
        loss = loss + 10 * (G.decode(G.encode(G.decode(G.encode(y, 1), 0), 0), 1) - y).abs().mean()
    private = {name for name, p in m.named_parameters() if any(p is q for q in G.private(0))}
    assert set(of_x.gradients) == private
    assert_gradients(of_x.gradients, loss, m, noise=1e-4)

    changed = {n for n in of_x.state if not torch.equal(of_x.state[n], of_y.state[n])} - {"pool.images", "pool.stored"}
    assert changed <= private  # nothing of x has reached another layer
    m.load_state_dict(of_y.state)
    w = G.encode(y, 1)
    yy = G.decode(w, 1)
    loss = score(m.D_Y(yy), 1) + (yy - y).abs().mean() + 0.1 * (w**2).mean()
    assert_gradients(of_y.gradients, loss, m, noise=1e-4)
    judged = score(m.D_Y(y), 1) + (score(m.D_Y(xy.detach()), 0) + score(m.D_Y(yy.detach()), 0)) / 2
    assert_gradients(of_d.gradients, judged, m, noise=1e-4)


def test_digits_train_both_discriminators_first_and_the_outer_layers_of_both_domains():
    method, data = make("digits", autoencoder_steps=1)
    before = [update.name for update in updates_of(method, data, 2)]
    assert before == ["d_pretrained", "d_pretrained", "pretrain", "d", "d", "x", "y"]
    method, data = make("digits", autoencoder_steps=1)
    real, fake, of_x, of_y = updates_of(method, data, 2)[3:]
    m, _ = make("digits")
    m.load_state_dict(real.state)
    x, y = (images[:1] for images in batches(data, 2)[1])
    G = m.G
    assert_gradients(real.gradients, score(m.D_X(x), 1) + score(m.D_Y(y), 1), m, noise=1e-4)
    m.load_state_dict(fake.state)
    xy, yx = G.decode(G.encode(x, 0), 1), G.decode(G.encode(y, 1), 0)
    assert_gradients(fake.gradients, score(m.D_X(yx.detach()), 0) + score(m.D_Y(xy.detach()), 0), m, noise=1e-4)
    m.load_state_dict(of_x.state)
    xy, yx = G.decode(G.encode(x, 0), 1), G.decode(G.encode(y, 1), 0)
    loss = score(m.D_Y(xy), 1) + score(m.D_X(yx), 1) + score(G.decode(G.encode(x, 0), 0), x)
    loss = loss + score(G.decode(G.encode(xy, 1), 0), x)
    outer = {n for n, p in m.named_parameters() if any(p is q for domain in (0, 1) for q in G.private(domain))}
    assert set(of_x.gradients) == outer
    assert_gradients(of_x.gradients, loss, m, noise=1e-4)
    m.load_state_dict(of_y.state)
    w = G.encode(y, 1)
    assert_gradients(of_y.gradients, score(G.decode(w, 1), y) + 0.1 * (w**2).mean(), m, noise=1e-4)


@pytest.mark.parametrize(
    ("options", "trained"),
    [
        ({}, {"x": "private", "y": "shared"}),
        ({"selective": False}, {"x": "shared", "y": "shared"}),
        ({"freeze_shared": True}, {"x": "private", "y": None}),
    ],
    ids=str,
)
def test_switches_decide_what_reaches_the_shared_layers(options, trained):
    method, data = make("digits", autoencoder_steps=1, **options)
    updates = {update.name: update for update in updates_of(method, data, 2)}
    for name, reach in trained.items():
        if reach is None:
            assert name not in updates
        else:
            found = any(n.startswith(("G.encoder", "G.decoder")) for n in updates[name].gradients)
            assert found == (reach == "shared")


def test_the_translation_is_that_of_the_image_through_the_second_decoder():
    method, data = make("drawing")
    x = to_float(data.data("a", "train").__getitems__([0]).image)
    torch.testing.assert_close(method.translate(x, "plus", "plain"), method.G.decode(method.G.encode(x, 0), 1))
    with pytest.raises(UserError, match="this OST translates from plus to plain"):
        method.translate(x, "plain", "plus")


def test_more_than_one_image_is_refused():
    method, _ = make("drawing")
    with pytest.raises(UserError, match="one image of plus, but there are 12: set limit to 1"):
        fitted(method, data=Faces(batch_size=2))


@pytest.mark.parametrize("protocol", ["digits", "drawing"])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_runs_resume_in_both_phases(protocol, stop, tmp_path):
    def run(folder, steps, ckpt_path=None):
        method, data = make(protocol, optimizer=GANAdam)
        job = trainer(max_steps=steps, limit_val_batches=0, run_dir=str(folder))
        job.fit(method, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)

    straight = run(tmp_path / "straight", 4)
    run(tmp_path / "stopped", stop)
    resumed = run(tmp_path / "stopped", 4, str(tmp_path / "stopped/checkpoints/last.ckpt"))
    for part in ("state_dict", "optimizer_states", "random_states"):
        assert differences(straight[part], resumed[part], part) == []


def test_training_ends_with_the_second_phase():
    method, data = make("drawing")
    before = copy.deepcopy(method.state_dict())
    run = trainer(limit_val_batches=0)
    run.fit(method, datamodule=data)
    assert run.global_step == 4
    assert moved(method, before) == {"G", "D_Y", "D_pretrained"}
    assert owners(before) > {"pool"}
