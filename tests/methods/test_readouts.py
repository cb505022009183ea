"""Read-outs against formulas of their own, which methods can have them, and when they learn."""

import copy

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from tests.methods.faces import Faces, assert_gradients, first_batch, fitted, make, one_step, pictures
from tests.methods.test_didd import WEIGHTS, autoencoder_losses, discriminator_loss
from tests.toys import trainer
from xdomain.data import ImageData
from xdomain.errors import UserError
from xdomain.methods import (
    DIDD,
    Change,
    ContentMethod,
    Erasure,
    FaderNetwork,
    GuidedTransfer,
    MaskedTransfer,
    Regions,
    Strength,
)
from xdomain.networks import ContentRegions, LinearErasure


@pytest.fixture(autouse=True)
def _few_images(monkeypatch):
    monkeypatch.setattr("xdomain.methods.readouts.FACES", 12)
    monkeypatch.setattr("xdomain.methods.readouts.GUIDES", 12)


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
    method = make(DIDD, norm="batch", spectral=False, readouts=[Erasure()], **WEIGHTS)
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
    again = make(DIDD, norm="batch", spectral=False, readouts=[Erasure()], **WEIGHTS)
    again.load_state_dict(method.state_dict())
    torch.testing.assert_close(again.codes(a)["common"], codes[0])


def test_erasure_is_for_inference_alone():
    method = make(DIDD, spectral=False, readouts=[Erasure()], **WEIGHTS)
    erasure = method.readouts["erasure"]
    erasure.statistics.fit(torch.rand(9, method.E_c.dim), torch.rand(9, method.E_c.dim) + 1)
    erasure.fitted_at.fill_(0)
    m = copy.deepcopy(method)
    (g, d), _ = one_step(method)
    a, b = first_batch()
    losses = autoencoder_losses(m, a, b)
    assert_gradients(g.gradients, sum(w * loss for w, loss in zip(WEIGHTS.values(), losses.values(), strict=True)), m)
    m.load_state_dict(d.state)
    assert_gradients(d.gradients, discriminator_loss(m, m.E_c(a).detach(), m.E_c(b).detach()), m)
    assert (m.read_common(a) - m.common(a)).abs().max() > 0.1


def test_strength_draws_content_farther_from_none():
    method, plain = (make(DIDD, spectral=False, slot_dropout=0.1, readouts=[Strength(s)]) for s in (1.5, 1.0))
    x, guide = (images[:2] for images in first_batch())
    results = [m.translate(x, "plus", "plain", guide=guide) for m in (method, plain)]
    removed = [m.translate(x, "plus", "plain", task="remove") for m in (method, plain)]
    torch.testing.assert_close(removed[0], removed[1])
    assert (results[1] - removed[1]).abs().max() > 0.01
    expected = (removed[1] + 1.5 * (results[1] - removed[1])).clamp(-1, 1)
    torch.testing.assert_close(results[0], expected)
    united = [m.translate(x, "plus", "plain", guide=guide, task="add") for m in (method, plain)]
    torch.testing.assert_close(united[0], (removed[1] + 1.5 * (united[1] - removed[1])).clamp(-1, 1))


@pytest.mark.parametrize("strength", [[], [Strength(2.0)]], ids=["alone", "with_strength"])
def test_change_adds_the_difference_of_two_decodings(strength):
    method = make(DIDD, spectral=False, slot_dropout=0.1, readouts=[*strength, Change(1.5)]).eval()
    x, guide, other = (pictures(i)[:2] for i in (1, 2, 3))
    c, a, b = method.E_c(x), method.E_a(x), method.E_b(guide)
    empty, twice = drawn(method, c), 2 if strength else 1
    y = {  # with both slots, Strength exaggerates both contents
        "own": empty + twice * (drawn(method, c, a) - empty),
        "transfer": empty + twice * (drawn(method, c, slot_b=b) - empty),
        "remove": empty,
        "add": empty + twice * (drawn(method, c, a, b) - empty),
        "swap": empty + twice * (drawn(method, c, method.E_a(other)) - empty),
    }
    y = {task: picture.clamp(-1, 1) for task, picture in y.items()}
    guides = {"transfer": guide, "remove": None, "add": guide, "swap": other}
    for task, given in guides.items():
        expected = (x + 1.5 * (y[task] - y["own"])).clamp(-1, 1)
        assert (expected - x).abs().max() > 0.01
        result = method.translate(x, "plus", "plain", guide=given, task=task)
        torch.testing.assert_close(result, expected, msg=task)
    assert torch.equal(method.translate(x, "plus", "plus"), x)  # nothing changes


class Flat(ContentMethod):
    """Draws faces, the left half, in one grey; contents are the grey of a quarter at the right, one per domain."""

    def __init__(self, **options):
        super().__init__(**options)
        self.contents = self.domains
        self.build_readouts(1, 1)

    def common(self, images):
        return images[..., :8].mean((1, 2, 3))[:, None]

    def separate(self, images, domain):
        left = 8 + 4 * self.domains.index(domain)
        return images[:, 0, 0, left, None]

    def decode(self, codes, images):
        y = torch.zeros_like(images)
        y[..., :8] += codes["common"][:, None, None]
        for i, domain in enumerate(self.domains):
            if domain in codes:
                y[..., 8 + 4 * i : 12 + 4 * i] += codes[domain][:, None, None]
        return y


def test_change_keeps_what_the_decoder_cannot_draw():
    torch.manual_seed(0)
    face, contents = torch.rand(4, 3, 16, 8) - 0.5, torch.tensor([0.3, -0.4, 0.2, 0.5]).view(4, 1, 1, 1)
    quarter, none = contents.expand(4, 3, 16, 4), torch.zeros(4, 3, 16, 4)
    with_a, with_b = (torch.cat(parts, 3) for parts in ((face, quarter, none), (face, none, quarter)))
    options = {"domains": Faces.domains, "channels": Faces.channels, "image_size": 16}
    method = Flat(readouts=[Change(1.0)], **options)
    torch.testing.assert_close(method.translate(with_a, "plus", "plain", guide=with_b), with_b)
    removed = method.translate(with_a, "plus", "plain", task="remove")
    torch.testing.assert_close(removed, torch.cat((face, none, none), 3))
    blurred = Flat(**options).translate(with_a, "plus", "plain", guide=with_b)
    assert (blurred - with_b).abs().mean() > 0.1
    strong = Flat(readouts=[Change(10.0)], **options).translate(with_a, "plus", "plain", guide=with_b)
    assert strong[..., 12:].abs().max() == 1  # the image range
    assert torch.equal(strong[..., :8], face)


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
    return method.eval(), a, b


def drawn(m, common, slot_a=None, slot_b=None):
    slots = [torch.zeros(len(common), m.E_a.dim) if slot is None else slot for slot in (slot_a, slot_b)]
    return torch.tanh(m.G(torch.cat([common, *(slot.expand(len(common), -1) for slot in slots)], 1))).detach()


def test_regions_are_learned_from_translations_and_guides(monkeypatch):
    learn, seen = ContentRegions.fit, []
    monkeypatch.setattr(ContentRegions, "fit", lambda regions, *facts: (seen.append(facts), learn(regions, *facts)))
    method, a, b = with_regions(readouts=[Regions(0.7)])
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
    places = method.readouts["regions"].statistics
    masks = places.regions
    assert 0 < masks[0].mean() < 1
    assert 0 < masks[1].mean() < 1
    typical = [method.read_separate(x, domain).mean(0) for x, domain in ((a, "plus"), (b, "plain"))]
    torch.testing.assert_close(places.typical, torch.stack(typical), rtol=1e-4, atol=1e-5)


def test_translations_change_their_regions_alone():
    method, a, b = with_regions(readouts=[Regions(0.7), Strength(1.5)])
    known, x, guide = method.readouts["regions"].statistics, a[:3], b[:3]
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
    torch.testing.assert_close(method.read_separate(x, "plus"), codes[0])
    torch.testing.assert_close(method.read_separate(guide, "plain"), codes[1])
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
    both = method.draw({"common": c, "plus": codes[0], "plain": codes[1]}, x)
    expected = neither + known.owned_by(0) * (own - neither) + known.owned_by(1) * (new - neither)
    torch.testing.assert_close(both, expected.clamp(-1, 1))
    grid = method.interpolate(x, guide, "common", 3)
    own_of_guide = method.read_separate(x, "plain"), method.read_separate(guide, "plus")
    corner = method.draw({"common": c, "plus": codes[0], "plain": own_of_guide[0]}, x)
    torch.testing.assert_close(grid[:, 0, 0], x + known.within(0, 1) * (corner - x))
    corner = method.draw({"common": c, "plus": own_of_guide[1], "plain": codes[1]}, x)
    torch.testing.assert_close(grid[:, 2, 2], x + known.within(0, 1) * (corner - x))
    moved = method.interpolate(x, guide, "plus", 2)[:, 0, 0]  # all three codes are the image's own: nothing is kept
    own_codes = {"common": c, "plus": codes[0], "plain": own_of_guide[0]}
    torch.testing.assert_close(moved, method.draw(own_codes, x))


def test_regions_show_what_is_removed_and_add_the_change():
    method, a, b = with_regions(readouts=[Regions(0.7), Change(1.5)])
    known, x, guide = method.readouts["regions"].statistics, a[:3], b[:3]
    left = torch.linspace(1, 0, 16).expand(16, 16)
    change = torch.zeros(3, 16, 16)
    change[:, 4:12, 2:14] = 1
    known.fit(change, torch.stack([left, left.flip(1)]), a.mean(0))
    c, seen = method.E_c(x), [known.seen_by(i, image) for i, image in enumerate((x, guide))]
    own, new = drawn(method, c, method.E_a(seen[0])), drawn(method, c, slot_b=method.E_b(seen[1]))
    added = (x + 1.5 * (new - own)).clamp(-1, 1)
    missed = gaussian_filter((x - own).numpy(), (0, 0, 0.25, 0.25), mode="mirror", radius=1)  # a 64th of 16 pixels
    toned = (new + torch.from_numpy(missed)).clamp(-1, 1)
    old, both, mine = known.owned_by(0), known.within(0, 1), known.owned_by(1)
    assert (both > old).any()
    result = method.translate(x, "plus", "plain", guide=guide)
    torch.testing.assert_close(result, x + both * (added + old * (toned - added) - x))
    result = method.translate(x, "plus", "plain", guide=guide, task="add")
    torch.testing.assert_close(result, x + mine * (added - x))
    plain = with_regions(readouts=[Regions(0.7)])[0]
    plain.load_state_dict(method.state_dict())
    removed = [m.translate(x, "plus", "plain", task="remove") for m in (method, plain)]
    assert torch.equal(*removed)


def with_all(**options):
    """A DIDD that has all read-outs."""
    readouts = [Regions(0.6), Strength(1.5), Erasure()]
    return make(DIDD, **{"norm": "batch", "spectral": False, "slot_dropout": 0.1, "readouts": readouts, **options})


def learned(method):
    """What the read-outs have learned."""
    return {name: value.clone() for name, value in method.readouts.state_dict().items()}


def test_read_outs_work_in_their_own_order():
    assert [*with_all().readouts] == ["erasure", "strength", "regions"]
    with pytest.raises(UserError, match="readouts names one twice"):
        make(DIDD, readouts=[Erasure(), Erasure()])


def test_they_learn_by_the_end_of_training_without_any_validation(tmp_path):
    method, data = with_all(), UnequalFaces(eval_batch_size=5)
    fitted(method, steps=2, data=data, run_dir=str(tmp_path / "run"))  # limit_val_batches: 0
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    found = learned(method)
    assert all(torch.equal(last[f"readouts.{name}"], value) for name, value in found.items())
    method.calibrate()
    assert all(torch.equal(value, found[name]) for name, value in learned(method).items())


def test_they_learn_once_for_the_same_weights_and_again_for_later_ones(monkeypatch):
    fits, fit = [], LinearErasure.fit
    monkeypatch.setattr(LinearErasure, "fit", lambda *args: (fits.append(1), fit(*args)))
    options = {"limit_val_batches": 1, "val_check_interval": 2, "check_val_every_n_epoch": None}
    for steps, count in ((4, 2), (5, 3)):  # the last validation is at the end, or before it
        fits.clear()
        trainer(max_steps=steps, **options).fit(with_all(readouts=[Erasure()]), datamodule=UnequalFaces())
        assert len(fits) == count


def test_what_learned_nothing_is_refused_until_a_test_lets_it_learn(tmp_path):
    plain = with_all(readouts=[])
    fitted(plain, data=UnequalFaces(eval_batch_size=5), run_dir=str(tmp_path / "run"))
    method, x, guide = with_all(), pictures(1), pictures(2)
    for ask in (method.codes, lambda x: method.translate(x, "plus", "plain", guide=guide)):
        with pytest.raises(UserError, match=r"Erasure of this DIDD has learned nothing yet.*take a later checkpoint"):
            ask(x)
    last = str(tmp_path / "run" / "checkpoints" / "last.ckpt")
    trainer().test(method, datamodule=UnequalFaces(eval_batch_size=5), ckpt_path=last, weights_only=True, verbose=False)
    assert method.calibrated()
    torch.testing.assert_close(method.eval().E_c(x), plain.eval().E_c(x))
    assert method.translate(x, "plus", "plain", guide=guide).isfinite().all()


def test_a_test_fits_read_outs_that_are_older_than_the_weights(tmp_path, caplog):
    """As in a checkpoint from between two validations."""
    method, data = with_all(), UnequalFaces(eval_batch_size=5)
    fitted(method, steps=2, data=data, run_dir=str(tmp_path / "run"))
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint, right = torch.load(last, weights_only=True), learned(method)
    for name, value in checkpoint["state_dict"].items():
        if name.startswith("readouts."):
            value.fill_(1)
    torch.save(checkpoint, last)
    loaded = with_all()
    loaded.on_load_checkpoint(checkpoint)
    trainer().test(loaded, datamodule=data, ckpt_path=str(last), weights_only=True, verbose=False)
    assert all(torch.equal(value, right[name]) for name, value in learned(loaded).items())
    with caplog.at_level("INFO"):
        alone = with_all()
        alone.load_state_dict(checkpoint["state_dict"])
        alone.on_load_checkpoint(checkpoint)
    assert "later than the validation" in caplog.text


def test_checkpoints_with_more_and_with_fewer_read_outs():
    method, x, guide = with_all(), pictures(1), pictures(2)
    fitted(method, data=UnequalFaces(eval_batch_size=5))
    method.eval()
    again, plain = with_all(), with_all(readouts=[])
    for other in (again, plain):
        checkpoint = {"state_dict": {name: value.clone() for name, value in method.state_dict().items()}}
        other.on_load_checkpoint(checkpoint)
        other.load_state_dict(checkpoint["state_dict"])
    results = [m.eval().translate(x, "plus", "plain", guide=guide) for m in (method, again, plain)]
    assert torch.equal(results[0], results[1])
    torch.testing.assert_close(results[2], drawn(method, method.E_c(x), slot_b=method.E_b(guide)))
    checkpoint = {"state_dict": plain.state_dict()}
    fewer = with_all()
    fewer.on_load_checkpoint(checkpoint)
    fewer.load_state_dict(checkpoint["state_dict"])
    assert not fewer.calibrated()


@pytest.mark.parametrize("kind", [GuidedTransfer, MaskedTransfer, FaderNetwork])
def test_other_methods_erase_too(kind):
    data = UnequalFaces(eval_batch_size=5)
    method = make(kind, readouts=[Erasure()])
    fitted(method, steps=2, data=data)
    method.eval()
    a, b = (torch.from_numpy(data.data(role, "train").images).float() / 127.5 - 1 for role in "ab")
    assert (method.common(a).mean(0) - method.common(b).mean(0)).abs().max() > 0.01
    torch.testing.assert_close(method.codes(a)["common"].mean(0), method.codes(b)["common"].mean(0), atol=1e-5, rtol=0)
    plain = make(kind)
    plain.load_state_dict(method.state_dict(), strict=False)
    plain.eval()
    plain.common = method.read_common
    for task in ("remove", "transfer", "add"):
        guided = {"guide": b[:3], "task": task}
        results = [m.translate(a[:3], "plus", "plain", **guided) for m in (method, plain)]
        torch.testing.assert_close(*results)
    results = [m.translate(b[:3], "plain", "plus", guide=a[:3]) for m in (method, plain)]
    torch.testing.assert_close(*results)


def test_guided_transfer_draws_more_strongly():
    method, x, guide = make(GuidedTransfer, readouts=[Strength(1.5)]).eval(), pictures(1), pictures(2)
    y, n = (torch.tanh(method.D(torch.cat([method.E_1(x), s], 1))) for s in (method.E_2(guide), 0 * method.E_2(guide)))
    result = method.translate(x, "plain", "plus", guide=guide)
    torch.testing.assert_close(result, (n + 1.5 * (y - n)).clamp(-1, 1))
    torch.testing.assert_close(method.translate(x, "plus", "plain"), n)


def test_guided_transfer_adds_the_change_to_images_without_content():
    method, x, guide = make(GuidedTransfer, readouts=[Change(1.5)]).eval(), pictures(1), pictures(2)
    y, n = (torch.tanh(method.D(torch.cat([method.E_1(x), s], 1))) for s in (method.E_2(guide), 0 * method.E_2(guide)))
    result = method.translate(x, "plain", "plus", guide=guide)
    torch.testing.assert_close(result, (x + 1.5 * (y - n)).clamp(-1, 1))
    assert torch.equal(method.translate(x, "plain", "plain"), x)


NO_UNIONS = "holds Regions, but .* does not have two contents that come from guides: leave Regions out"


@pytest.mark.parametrize(
    ("kind", "readout", "sentence"),
    [
        (DIDD, Strength(2.0), "readouts holds Strength, for which .* set slot_dropout as well"),
        (DIDD, Regions(0.3), "readouts holds Regions, for which .* set slot_dropout as well"),
        (
            MaskedTransfer,
            Strength(2.0),
            "holds Strength, but MaskedTransfer draws content by a mask .*: leave Strength",
        ),
        (FaderNetwork, Strength(2.0), "holds Strength, but FaderNetwork has no separate codes"),
        (FaderNetwork, Change(2.0), "holds Change, but FaderNetwork has no separate codes"),
        (MaskedTransfer, Change(2.0), "holds Change, but MaskedTransfer draws content by a mask .*: leave Change"),
        *((kind, Regions(0.3), NO_UNIONS) for kind in (GuidedTransfer, MaskedTransfer, FaderNetwork)),
    ],
)
def test_what_a_method_cannot_support_is_refused(kind, readout, sentence):
    with pytest.raises(UserError, match=sentence):
        make(kind, readouts=[readout])


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: Strength(0.0), "factor is 0.0: give a number above 0"),
        (lambda: Change(0.0), "factor is 0.0: give a number above 0"),
        (lambda: Regions(1.0), "share is 1.0: give a number between 0 and 1"),
    ],
)
def test_settings_of_read_outs_are_checked(ask, sentence):
    with pytest.raises(UserError, match=sentence):
        ask()
