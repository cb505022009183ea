"""One-shot translation: which losses reach which layers, in both forms of the authors' code."""

import copy
from functools import partial

import numpy as np
import pytest
import pytorch_lightning as pl
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
from xdomain.optim import GANAdam, LinearDecay


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own: no other test's phase I is in it."""
    monkeypatch.setenv("XDOMAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


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
    updates = updates_of(method, data, 2)
    assert [u.name for u in updates] == ["d_pretrained", "d_pretrained", "pretrain", "d", "d", "x", "y"]
    real, fake, of_x, of_y = updates[3:]
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
    with pytest.raises(UserError, match="one image of plus, but there are 12: wrap the data in OneShot"):
        fitted(method, data=Faces(batch_size=2))


class Other(OneAndMany):
    """Another image of the first domain."""

    def data(self, role, split):
        return super().data("b" if role == "a" else role, split).keep(np.arange(1) if role == "a" else np.arange(12))


class Fewer(OneAndMany):
    """Another set of the second domain."""

    def data(self, role, split):
        whole = super().data(role, split)
        return whole.keep(np.arange(11)) if role == "b" else whole


class Steps(pl.Callback):
    """The batches that were trained, and the rates at which."""

    def __init__(self):
        self.seen = []
        self.rates = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.seen.append(trainer.global_step)
        names = pl_module.build_optimizers()
        self.rates.append({n: pl_module.named_optimizer(n).param_groups[0]["lr"] for n in names})


def run(folder, protocol="drawing", stop=-1, resume=False, data=None, training=None, **options):
    """A checkpoint at the end, and the batches that were trained."""
    method, usual = make(protocol, **{"optimizer": GANAdam, **options})
    watch = Steps()
    job = trainer(
        max_steps=stop, max_epochs=-1, limit_val_batches=0, run_dir=str(folder), callbacks=[watch], **(training or {})
    )
    checkpoint = str(folder / "checkpoints/last.ckpt") if resume else None
    job.fit(method, datamodule=data or usual, ckpt_path=checkpoint, weights_only=True)
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True), watch


def of_phase_two(checkpoint):
    """What both trainings share, whether they have trained phase I themselves or not."""
    state = {n: v for n, v in checkpoint["state_dict"].items() if not n.startswith("D_pretrained")}
    facts = {k: checkpoint[k] for k in ("epoch", "global_step", "loops")}
    torch_state = [states["torch"] for states in checkpoint["random_states"]]
    return {"weights": state, "optimizers": checkpoint["optimizer_states"][2:], "torch": torch_state, **facts}


def phases(cache):
    return sorted(path.name for path in (cache / "phases").glob("*.safetensors"))


# Epochs have 6 batches: phase I ends within the first, with it, or later; after 27 the pool of 50 draws random numbers.
@pytest.mark.parametrize(("protocol", "first"), [("digits", 2), ("drawing", 2), ("drawing", 6), ("drawing", 27)])
def test_a_second_training_begins_with_phase_two_and_ends_with_the_same_weights(protocol, first, tmp_path, cache):
    options = {"protocol": protocol, "autoencoder_steps": first, "steps": 7}
    data = OneDigit if protocol == "digits" else OneAndMany
    own, seen = run(tmp_path / "own", data=data(batch_size=2, jitter=True), **options)
    found, fewer = run(tmp_path / "found", data=data(batch_size=2, jitter=True), **options)
    assert seen.seen == list(range(1, first + 8))
    assert fewer.seen == list(range(first + 1, first + 8))
    assert len(phases(cache)) == 1
    assert differences(of_phase_two(own), of_phase_two(found)) == []


def test_phase_one_is_shared_by_images_and_settings_of_phase_two_alone(tmp_path, cache):
    run(tmp_path / "first")
    same = [
        {"data": Other(batch_size=2)},
        {"steps": 3},
        {"cycle": "two_way"},
        {"selective": False},
        {"freeze_shared": True},
    ]
    for number, options in enumerate(same):
        assert run(tmp_path / f"same {number}", **options)[1].seen[0] == 3, options
    assert len(phases(cache)) == 1
    others = [
        {"data": Fewer(batch_size=2)},
        {"data": OneAndMany(batch_size=3)},
        {"data": OneAndMany(batch_size=2, seed=1)},
        {"data": OneAndMany(batch_size=2, jitter=True)},
        {"autoencoders": lambda c: DrawingAutoencoders(c, width=8, halvings=2, private_halvings=1, blocks=1)},
        {"autoencoder_steps": 3},
        {"optimizer": partial(GANAdam, lr=1e-3)},
        {"scheduler": lambda o: LinearDecay(o, 1, 1)},
        {"clip": 1.0},
        {"training": {"precision": "bf16-mixed"}},
        {"training": {"limit_train_batches": 5}},
        {"discriminator": lambda c: PatchDiscriminator(c, width=8, layers=1)},
    ]
    for number, options in enumerate(others):
        assert run(tmp_path / f"other {number}", **options)[1].seen[0] == 1, options
    assert len(phases(cache)) == 1 + len(others)


def test_each_phase_has_a_schedule_of_its_own_whether_phase_one_was_trained_or_not(tmp_path):
    options = {"scheduler": lambda o: LinearDecay(o, 1, 1), "autoencoder_steps": 3, "steps": 3}
    for name, first in (("own", 0), ("found", 3)):
        rates = run(tmp_path / name, **options)[1].rates
        assert len(rates) == 6 - first
        for optimizer in ("x", "y", "d"):
            assert [r[optimizer] for r in rates[3 - first :]] == pytest.approx([1e-4, 0, 0])
    assert [r["pretrain"] for r in run(tmp_path / "again", stop=3, **options)[1].rates] == pytest.approx([1e-4, 0, 0])


def test_a_damaged_phase_is_trained_again(tmp_path, cache, caplog):
    straight, _ = run(tmp_path / "first")
    file = cache / "phases" / phases(cache)[0]
    whole = file.read_bytes()
    for damaged in (whole[:-9], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]):
        file.write_bytes(damaged)
        with caplog.at_level("INFO", "pytorch_lightning"):
            again, watch = run(tmp_path / f"run {len(damaged)}")
        assert watch.seen[0] == 1
        assert f"{file} is damaged and is trained again" in caplog.text
        assert differences(straight["state_dict"], again["state_dict"]) == []
        assert file.read_bytes() == whole
    with caplog.at_level("INFO", "pytorch_lightning"):
        assert run(tmp_path / "last")[1].seen[0] == 3
    assert f"the first phase is not trained again: its weights are those in {file}" in caplog.text


def test_a_cache_that_cannot_be_written_does_not_end_the_training(tmp_path, cache, caplog):
    cache.mkdir()
    (cache / "phases").write_text("no folder")
    with caplog.at_level("INFO", "pytorch_lightning"):
        assert run(tmp_path / "run")[1].seen == [1, 2, 3, 4]
    assert "the first phase is not kept for other trainings" in caplog.text
    assert "XDOMAIN_CACHE" in caplog.text


def test_weights_that_are_not_finite_are_not_kept(tmp_path, cache):
    with pytest.raises(UserError, match=r"is (nan|inf)"):
        run(tmp_path / "run", autoencoder_steps=4, optimizer=lambda p: torch.optim.SGD(p, lr=1e30))
    assert phases(cache) == []


def test_a_training_of_phase_one_alone_trains_it(tmp_path, cache):
    for name in ("first", "second"):
        checkpoint, watch = run(tmp_path / name, stop=2)
        assert (watch.seen, checkpoint["global_step"]) == ([1, 2], 2)
    assert len(phases(cache)) == 1


@pytest.mark.parametrize("protocol", ["digits", "drawing"])
@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize("kept", [False, True])
def test_runs_resume_in_both_phases(protocol, stop, kept, tmp_path, cache, monkeypatch):
    straight, _ = run(tmp_path / "straight", protocol)
    kept_before = phases(cache)
    monkeypatch.setenv("XDOMAIN_CACHE", str(tmp_path / "empty"))
    run(tmp_path / "stopped", protocol, stop)
    if kept:  # a resumed training goes on with its own weights
        monkeypatch.setenv("XDOMAIN_CACHE", str(cache))
    resumed, watch = run(tmp_path / "stopped", protocol, resume=True)
    assert watch.seen == list(range(stop + 1, 5))
    for part in ("state_dict", "optimizer_states", "random_states"):
        assert differences(straight[part], resumed[part], part) == []
    assert phases(cache if kept else tmp_path / "empty") == kept_before  # under the name that it began with


@pytest.mark.parametrize("stop", [4, 7, 15])  # the pool of 50 is half full in phase I; begins anew; half full
def test_runs_resume_with_a_pool_that_is_half_full(stop, tmp_path, monkeypatch):
    options = {"autoencoder_steps": 7, "steps": 26}  # full in the twenty-fifth batch of phase II
    straight, _ = run(tmp_path / "straight", **options)
    assert int(straight["state_dict"]["pool.stored"]) == 50
    monkeypatch.setenv("XDOMAIN_CACHE", str(tmp_path / "empty"))
    stopped, _ = run(tmp_path / "stopped", stop=stop, **options)
    assert int(stopped["state_dict"]["pool.stored"]) == {4: 8, 7: 14, 15: 16}[stop]
    resumed, _ = run(tmp_path / "stopped", resume=True, **options)
    for part in ("state_dict", "optimizer_states", "random_states"):
        assert differences(straight[part], resumed[part], part) == []


def test_phase_one_that_goes_on_with_other_settings_is_not_kept(tmp_path, cache):
    run(tmp_path / "run", stop=1)
    run(tmp_path / "run", resume=True, optimizer=partial(GANAdam, lr=1e-3))
    assert not (cache / "phases").exists()


def test_training_ends_with_the_second_phase():
    method, data = make("drawing")
    before = copy.deepcopy(method.state_dict())
    run = trainer(limit_val_batches=0)
    run.fit(method, datamodule=data)
    assert run.global_step == 4
    assert moved(method, before) == {"G", "D_Y", "D_pretrained"}
    assert owners(before) > {"pool"}
