"""DIDD against the formulas of the paper, with separate calls for both domains."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from tests.methods.faces import Faces, assert_gradients, first_batch, fitted, make, millions, moved, one_step, owners
from tests.toys import trainer
from xdomain.data import ImageData
from xdomain.errors import UserError
from xdomain.methods import DIDD
from xdomain.networks import ContentRegions

WEIGHTS = {"reconstruction": 1.3, "zero": 0.7, "confusion": 0.9}


RECIPE = {
    **{"norm": "batch", "separate_norm": "instance", "spectral": False, "common": 5, "content_start": 2},
    **{"slot_dropout": 0.3, "confusion_target": "uniform", "d_steps": 2, "discriminant": 0.01, "ramp": 3},
}
GOLDEN = {
    "DIDD": lambda: (make(DIDD, **WEIGHTS), Faces()),
    "DIDD as in its recipes": lambda: (make(DIDD, **RECIPE), Faces()),
}


def reconstruction(m, slots, a, b):
    """Images of both domains from their common codes and the two slots."""
    s_a, s_b = m.E_a(a), m.E_b(b)
    empty = torch.zeros_like(s_a)
    of_a, of_b = {
        "zero": ((s_a, empty), (empty, s_b)),
        "ones": ((s_a, empty), (s_b, empty + 1)),
        "copy": ((s_a, s_a), (s_b, s_b)),
    }[slots]
    y_a = torch.tanh(m.G(torch.cat([m.E_c(a), *of_a], 1)))
    y_b = torch.tanh(m.G(torch.cat([m.E_c(b), *of_b], 1)))
    return (y_a - a).abs().mean() + (y_b - b).abs().mean()


def autoencoder_losses(m, slots, a, b):
    zero = m.E_a(b).abs().mean() + m.E_b(a).abs().mean()
    confuse = F.softplus(-m.d(m.E_c(a))).mean() + F.softplus(-m.d(m.E_c(b))).mean()  # both are to look like b: 1
    return {"l_reconstruction": reconstruction(m, slots, a, b), "l_zero": zero, "l_confuse": confuse}


def discriminator_loss(m, c_a, c_b):
    return F.softplus(m.d(c_a)).mean() + F.softplus(-m.d(c_b)).mean()  # a is 0, b is 1


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"spectral": True},
        {"last_norm": False, "second_norm": False},
        {"slots": "copy"},
        {"slots": "ones"},
        {"stale_codes": True},
    ],
    ids=str,
)
def test_one_step_equals_the_formulas(settings, monkeypatch):
    # every pass moves the estimates of the singular values: hold them still
    monkeypatch.setattr(parametrizations._SpectralNorm, "_power_method", lambda *_: None)
    method = make(DIDD, **{"spectral": False, **WEIGHTS, **settings})
    m = copy.deepcopy(method)
    (g, d), logged = one_step(method)
    a, b = first_batch()

    assert (g.name, d.name) == ("g", "d")
    losses = autoencoder_losses(m, settings.get("slots", "zero"), a, b)
    total = sum(weight * loss for weight, loss in zip(WEIGHTS.values(), losses.values(), strict=True))
    assert owners(g.gradients) == {"E_c", "E_a", "E_b", "G"}
    assert_gradients(g.gradients, total, m)
    expected = {**losses, "l_g": total}
    assert {name: logged[name] for name in expected} == pytest.approx(
        {name: loss.item() for name, loss in expected.items()}, rel=1e-4
    )

    old = [m.E_c(a).detach(), m.E_c(b).detach()]
    m.load_state_dict(d.state)
    new = [m.E_c(a).detach(), m.E_c(b).detach()]
    assert max((x - y).abs().max() for x, y in zip(old, new, strict=True)) > 1e-3
    assert owners(d.gradients) == {"d"}
    assert_gradients(d.gradients, discriminator_loss(m, *(old if settings.get("stale_codes") else new)), m)


def test_before_content_starts_there_is_none():
    method = make(DIDD, spectral=False, content_start=1, **WEIGHTS)
    m = copy.deepcopy(method)
    (g, _), logged = one_step(method)
    assert owners(g.gradients) == {"E_c", "G"}
    loss = 0
    for x in first_batch():
        c = m.E_c(x)
        empty = torch.zeros(len(x), m.E_a.dim + m.E_b.dim)
        loss = loss + 1.3 * (torch.tanh(m.G(torch.cat([c, empty], 1))) - x).abs().mean()
        loss = loss + 0.9 * F.softplus(-m.d(c)).mean()
    assert_gradients(g.gradients, loss, m)
    assert logged["l_zero"] == 0


def test_separate_encoders_can_have_a_norm_of_their_own():
    method = make(DIDD, norm="batch", separate_norm="instance", spectral=False)
    norms = [
        {type(m).__name__ for m in getattr(method, name).modules() if "Norm" in type(m).__name__}
        for name in ("E_a", "E_b", "E_c", "G")
    ]
    assert norms == [*[{"InstanceNorm2d"}] * 2, *[{"BatchNorm2d"}] * 2]
    x = first_batch()[0]
    method.eval()  # InstanceNorm sees shapes, not how strong they are

    def change(encoder):
        return (encoder(0.5 * x) - encoder(x)).abs().mean()

    assert max(change(method.E_a), change(method.E_b)) < 0.1 * change(method.E_c)


def test_content_comes_with_its_first_batch():
    method = make(DIDD, spectral=False, content_start=1, **WEIGHTS)
    start = copy.deepcopy(method.state_dict())
    fitted(method, steps=2)
    assert moved(method, start) == {"E_c", "E_a", "E_b", "G", "d"}


def test_training_with_spectral_norms_moves_everything():
    method = make(DIDD, confusion=0.5)
    before = copy.deepcopy(method.state_dict())
    run = fitted(method, steps=3)
    assert moved(method, before) == {"E_c", "E_a", "E_b", "G", "d"}
    assert all(value.isfinite() for value in run.callback_metrics.values())
    assert method.clip == 5.0


def test_sizes_of_the_paper():
    with torch.device("meta"):
        method = DIDD(domains=Faces.domains, channels=(3, 3), image_size=128, spectral=False)
    sizes = {name: millions(getattr(method, name)) for name in ("E_c", "E_a", "E_b", "G", "d")}
    assert sizes == {"E_c": "6.29", "E_a": "2.99", "E_b": "2.99", "G": "6.98", "d": "0.95"}
    assert (method.E_c.dim, method.E_a.dim, method.E_b.dim) == (1848, 100, 100)
    assert method.G.shape == (512, 2, 2)


@pytest.mark.parametrize("size", [32, 64])
def test_smaller_sizes_have_smaller_trunks(size):
    with torch.device("meta"):
        method = DIDD(domains=Faces.domains, channels=(3, 3), image_size=size, sep=8, spectral=False)
    last = {32: 256, 64: 512}[size]
    widths = [32, 64, 128, 256][: {32: 3, 64: 4}[size]]
    convolutions = {
        name: [m.out_channels for m in getattr(method, name).modules() if hasattr(m, "kernel_size")]
        for name in ("E_c", "E_a", "G")
    }
    assert convolutions == {"E_c": [*widths, last - 16], "E_a": [*widths, 8], "G": [*reversed(widths), 3]}
    assert method.d[0].out_features == last


def test_norms_that_the_code_of_the_paper_lacks_or_has():
    def norms(net):
        return [type(layer).__name__ for layer in net.layers].count("InstanceNorm2d")

    def counts(**options):
        method = make(DIDD, **options)
        return norms(method.E_c), norms(method.E_a), norms(method.E_b)

    assert counts() == (3, 3, 3)
    assert counts(second_norm=False) == (2, 3, 3)
    assert counts(last_norm=False) == (2, 2, 2)
    assert counts(last_norm=False, second_norm=False) == (1, 2, 2)


@pytest.mark.parametrize("axis", [0, 1])
def test_spectral_axis_is_that_of_the_decoder(axis):
    layer = make(DIDD, spectral_axis=axis).G.blocks[0][0]
    assert layer.parametrizations.weight[0].dim == axis


def discriminant_losses(m, a, b):
    """Both adversaries: d, which is not to decide, and the distance of the means in the first batch."""
    c_a, c_b = m.E_c(a), m.E_c(b)
    both = torch.cat([m.d(c_a), m.d(c_b)])
    undecided = (F.softplus(both) + F.softplus(-both)).mean()  # (-log p - log(1 - p)) / 2 of both domains, added
    gap = c_a.mean(0) - c_b.mean(0)
    with torch.no_grad():
        within = (torch.cov(c_a.T, correction=0) * len(a) + torch.cov(c_b.T, correction=0) * len(b)) / (2 * len(a) - 2)
        within += 0.05 * within.diagonal().mean() * torch.eye(len(gap))
        w = torch.linalg.inv(within) @ gap
        w /= (w @ within @ w).sqrt()
    return undecided, gap @ w


def test_the_stronger_adversary_equals_its_formulas():
    settings = {"confusion_target": "uniform", "d_steps": 3, "discriminant": 0.4, "common": 5}
    method = make(DIDD, spectral=False, **WEIGHTS, **settings)
    m = copy.deepcopy(method)
    (g, *d), _ = one_step(method)
    a, b = first_batch()

    base = autoencoder_losses(m, "zero", a, b)
    undecided, distance = discriminant_losses(m, a, b)
    total = 1.3 * base["l_reconstruction"] + 0.7 * base["l_zero"] + 0.9 * undecided + 0.4 * distance
    assert m.E_c.dim == 5 * 2 * 2
    assert_gradients(g.gradients, total, m)
    assert [update.name for update in d] == ["d", "d", "d"]
    for update in d:
        m.load_state_dict(update.state)
        assert_gradients(update.gradients, discriminator_loss(m, m.E_c(a).detach(), m.E_c(b).detach()), m)


def test_both_adversaries_grow_in():
    settings = {"discriminant": 0.4, "ramp": 100}
    method = make(DIDD, spectral=False, **WEIGHTS, **settings)
    m = copy.deepcopy(method)
    (g, _), _ = one_step(method)  # the first batch: both weigh nothing
    a, b = first_batch()
    base = autoencoder_losses(m, "zero", a, b)
    assert_gradients(g.gradients, 1.3 * base["l_reconstruction"] + 0.7 * base["l_zero"], m)


def test_without_updates_d_learns_nothing():
    with pytest.raises(UserError, match="d_steps is 0"):
        make(DIDD, d_steps=0)


def test_dropped_slots_teach_the_decoder_alone(monkeypatch):
    method = make(DIDD, spectral=False, slot_dropout=0.4, **{**WEIGHTS, "zero": 0.0, "confusion": 0.0})
    m = copy.deepcopy(method)
    draws = torch.tensor([0.9, 0.1, 0.39, 0.7, 0.5, 0.41, 0.2, 0.6])[:, None]  # of four images of a and four of b
    monkeypatch.setattr(torch, "rand", lambda *_, **__: draws)
    (g, _), logged = one_step(method)
    monkeypatch.undo()
    loss = 0
    for domain, x in enumerate(first_batch()):
        c, code = m.E_c(x), (m.E_a, m.E_b)[domain](x)
        empty = torch.zeros_like(code)
        for i, draw in enumerate(draws[4 * domain :][:4]):
            slots = [empty[i], empty[i]] if draw < 0.4 else [code[i], empty[i]][:: 1 if domain == 0 else -1]
            common = c[i].detach() if draw < 0.4 else c[i]
            y = torch.tanh(m.G(torch.cat([common, *slots])[None]))
            loss = loss + 1.3 * (y[0] - x[i]).abs().mean() / 4
    assert logged["l_reconstruction"] == pytest.approx(loss.item() / 1.3, rel=1e-4)
    assert_gradients(g.gradients, loss, m)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_dropout_of_slots_is_a_share(share):
    with pytest.raises(UserError, match=f"slot_dropout is {share}: give a share"):
        make(DIDD, slot_dropout=share)


def erased(c_a, c_b):
    """Codes without the direction in which their means differ, by an inverse instead of a solver."""
    a, b = c_a.detach(), c_b.detach()
    centred = torch.cat([a - a.mean(0), b - b.mean(0)])
    within = centred.T @ centred / (len(centred) - 2)
    within = within + 0.01 * within.diagonal().mean() * torch.eye(len(within))
    gap, middle = a.mean(0) - b.mean(0), (a.mean(0) + b.mean(0)) / 2
    w = torch.linalg.inv(within) @ gap
    return [c - ((c - middle) @ w / (w @ gap))[:, None] * gap for c in (c_a, c_b)]


def test_inference_erases_what_training_images_show():
    data = Faces()
    method = make(DIDD, norm="batch", spectral=False, erasure=True, **WEIGHTS)
    run = trainer(max_steps=2, limit_val_batches=1, val_check_interval=1, check_val_every_n_epoch=None)
    run.fit(method, datamodule=data)
    images = [data.data(role, "train").images for role in "ab"]
    a, b = (torch.from_numpy(x).float() / 127.5 - 1 for x in images)
    method.eval()
    raw = [method.E_c(x).detach() for x in (a, b)]
    assert (raw[0].mean(0) - raw[1].mean(0)).abs().max() > 0.01
    codes = [method.codes(x)["common"] for x in (a, b)]
    torch.testing.assert_close(codes[0].mean(0), codes[1].mean(0), rtol=0, atol=1e-5)
    for code, expected in zip(codes, erased(*raw), strict=True):
        torch.testing.assert_close(code, expected, rtol=1e-2, atol=1e-4)
    again = make(DIDD, norm="batch", spectral=False, erasure=True, **WEIGHTS)
    again.load_state_dict(method.state_dict())
    torch.testing.assert_close(again.codes(a)["common"], codes[0])


def test_erasure_is_for_inference_alone():
    method = make(DIDD, spectral=False, erasure=True, **WEIGHTS)
    method.erasure.fit(torch.rand(9, method.E_c.dim), torch.rand(9, method.E_c.dim) + 1)
    m = copy.deepcopy(method)
    (g, d), _ = one_step(method)
    a, b = first_batch()
    losses = autoencoder_losses(m, "zero", a, b)
    assert_gradients(g.gradients, sum(w * loss for w, loss in zip(WEIGHTS.values(), losses.values(), strict=True)), m)
    m.load_state_dict(d.state)
    assert_gradients(d.gradients, discriminator_loss(m, m.E_c(a).detach(), m.E_c(b).detach()), m)
    assert (m.common(a) - m.E_c(a)).abs().max() > 0.1


def test_strength_draws_content_farther_from_none():
    method, plain = (make(DIDD, spectral=False, slot_dropout=0.1, strength=s) for s in (1.5, 1.0))
    x, guide = (images[:2] for images in first_batch())
    results = [m.translate(x, "plus", "plain", guide=guide) for m in (method, plain)]
    removed = [m.translate(x, "plus", "plain", task="remove") for m in (method, plain)]
    torch.testing.assert_close(removed[0], removed[1])
    assert (results[1] - removed[1]).abs().max() > 0.01
    expected = (removed[1] + 1.5 * (results[1] - removed[1])).clamp(-1, 1)
    torch.testing.assert_close(results[0], expected)
    united = [m.translate(x, "plus", "plain", guide=guide, task="add") for m in (method, plain)]
    torch.testing.assert_close(united[0], (removed[1] + 1.5 * (united[1] - removed[1])).clamp(-1, 1))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"strength": 0.0, "slot_dropout": 0.1}, "strength is 0.0: give a number above 0"),
        ({"strength": 1.5}, "strength is 1.5, for which .* set slot_dropout as well"),
        ({"regions": 0.3}, "regions is 0.3, for which .* set slot_dropout as well"),
        ({"regions": 1.0, "slot_dropout": 0.1}, "regions is 1.0: give a share between 0 and 1"),
    ],
    ids=str,
)
def test_settings_of_inference_are_checked(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        make(DIDD, **settings)


class UnequalFaces(Faces):
    """12 images of one domain, 30 of the other."""

    def data(self, role, split):
        images = np.random.default_rng([ord(role), *split.encode()]).integers(0, 256, (30, 3, 16, 16), dtype=np.uint8)
        return ImageData(images[: 12 if role == "a" else 30])


def with_regions(**options):
    """A method that has learned its regions in two batches, and the training images of both domains."""
    data = UnequalFaces(eval_batch_size=5)
    settings = {"norm": "batch", "spectral": False, "slot_dropout": 0.1, **WEIGHTS, **options}
    method = make(DIDD, **settings)
    run = trainer(max_steps=2, limit_val_batches=1, val_check_interval=1, check_val_every_n_epoch=None)
    run.fit(method, datamodule=data)
    a, b = (torch.from_numpy(data.data(role, "train").images).float() / 127.5 - 1 for role in "ab")
    return method.eval(), a, b, settings


def drawn(m, common, slot_a=None, slot_b=None):
    slots = [torch.zeros(len(common), m.E_a.dim) if slot is None else slot for slot in (slot_a, slot_b)]
    return torch.tanh(m.G(torch.cat([common, *(slot.expand(len(common), -1) for slot in slots)], 1))).detach()


def test_regions_are_learned_from_translations_and_guides(monkeypatch):
    learn, seen = ContentRegions.fit, []
    monkeypatch.setattr(ContentRegions, "fit", lambda regions, *facts: (seen.append(facts), learn(regions, *facts)))
    monkeypatch.setattr("xdomain.methods.didd.FACES", 12)
    monkeypatch.setattr("xdomain.methods.didd.GUIDES", 12)
    method, a, b, settings = with_regions(regions=0.7)
    some = torch.linspace(0, 29, 12).round().long()  # 12 of 30 guides, and 30 of 12
    more = torch.linspace(0, 11, 30).round().long()
    taken_a = a - drawn(method, method.E_c(a), slot_b=method.E_b(b[some]))
    taken_b = b - drawn(method, method.E_c(b), slot_a=method.E_a(a[more]))
    c = torch.cat([method.E_c(a), method.E_c(b[some])])
    over_a = torch.stack([drawn(method, c, slot_a=code) for code in method.E_a(a)]).std(0)
    over_b = torch.stack([drawn(method, c, slot_b=code) for code in method.E_b(b[some])]).std(0)
    expected = [
        taken_a.mean(0) - taken_b.mean(0),
        torch.stack([over_a.mean((0, 1)), over_b.mean((0, 1))]),
        (a.mean(0) + b.mean(0)) / 2,
    ]
    torch.testing.assert_close([*seen[-1]], expected, rtol=1e-4, atol=1e-5)
    masks = method.regions.regions
    assert 0 < masks[0].mean() < 1
    assert 0 < masks[1].mean() < 1
    typical = [method.content(x, domain).mean(0) for x, domain in ((a, "plus"), (b, "plain"))]
    torch.testing.assert_close(method.regions.typical, torch.stack(typical), rtol=1e-4, atol=1e-5)

    again, plain = make(DIDD, **settings), make(DIDD, **{**settings, "regions": None})
    for other in (again, plain):  # the second without what it has no use for
        checkpoint = {"state_dict": method.state_dict()}
        other.on_load_checkpoint(checkpoint)
        other.load_state_dict(checkpoint["state_dict"])
    results = [m.translate(a, "plus", "plain", guide=b[:12]) for m in (method, again, plain)]
    torch.testing.assert_close(results[0], results[1])
    as_decoded = drawn(method, method.E_c(a), slot_b=method.E_b(b[:12]))
    torch.testing.assert_close(results[2], as_decoded)
    again.regions.learned.fill_(False)
    torch.testing.assert_close(again.translate(a, "plus", "plain", guide=b[:12]), as_decoded)


def test_translations_change_their_regions_alone():
    method, a, b, _ = with_regions(regions=0.7, strength=1.5)
    known, x, guide = method.regions, a[:3], b[:3]
    left = torch.linspace(1, 0, 16).expand(16, 16)  # contents vary on either side
    change = torch.zeros(3, 16, 16)
    change[:, 4:12, 2:14] = 1
    known.fit(change, torch.stack([left, left.flip(1)]), a.mean(0))
    assert not torch.equal(known.within(0), known.within(1))
    c = method.E_c(x)
    neither = drawn(method, c)

    def strong(**slots):
        return (neither + 1.5 * (drawn(method, c, **slots) - neither)).clamp(-1, 1)

    codes = [method.E_a(known.seen_by(0, x)), method.E_b(known.seen_by(1, guide))]
    torch.testing.assert_close(method.content(x, "plus"), codes[0])
    torch.testing.assert_close(method.content(guide, "plain"), codes[1])
    own, new = strong(slot_a=codes[0]), strong(slot_b=codes[1])
    other = strong(slot_a=method.E_a(known.seen_by(0, a[3:6])))
    typical = strong(slot_b=known.typical[1:2])
    removed = typical + known.overlap() * (neither - typical)
    tasks = {
        "transfer": (new, known.within(0, 1), {"guide": guide}),
        "add": (new, known.owned_by(1), {"guide": guide}),
        "remove": (removed, known.within(0), {}),
        "swap": (other, known.within(0), {"guide": a[3:6]}),
    }
    for task, (y, where, options) in tasks.items():
        result = method.translate(x, "plus", "plain", task=task, **options)
        torch.testing.assert_close(result, x + where * (y - x), msg=task)
        kept = (where == 0).expand_as(x)
        assert kept.any()
        assert torch.equal(result[kept], x[kept])
    with torch.autocast("cpu", torch.bfloat16):
        assert method.translate(x, "plus", "plain", guide=guide).dtype == torch.float32
    assert 0 < (known.owned_by(1) * known.within(0, 1)).mean() < known.within(0, 1).mean()
    both = method.decode({"common": c, "plus": codes[0], "plain": codes[1]}, x)
    expected = neither + known.owned_by(0) * (own - neither) + known.owned_by(1) * (new - neither)
    torch.testing.assert_close(both, expected.clamp(-1, 1))
    grid = method.interpolate(x, guide, "common", 3)
    own_of_guide = method.content(x, "plain"), method.content(guide, "plus")
    corner = method.decode({"common": c, "plus": codes[0], "plain": own_of_guide[0]}, x)
    torch.testing.assert_close(grid[:, 0, 0], x + known.within(0, 1) * (corner - x))
    corner = method.decode({"common": c, "plus": own_of_guide[1], "plain": codes[1]}, x)
    torch.testing.assert_close(grid[:, 2, 2], x + known.within(0, 1) * (corner - x))
    moved = method.interpolate(x, guide, "plus", 2)[:, 0, 0]  # all three codes are the image's own: nothing is kept
    own_codes = {"common": c, "plus": codes[0], "plain": own_of_guide[0]}
    torch.testing.assert_close(moved, method.decode(own_codes, x))
