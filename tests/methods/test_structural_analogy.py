"""Structural analogy against its formulas written out, and what can be done with a trained one."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.methods.single import OneImage, TwoImages, assert_resumes_exactly, facts, photograph, train
from tests.methods.test_singan import Watch, assert_gradients, penalty, sgd
from xdomain.data.single import SingleSample
from xdomain.errors import UserError
from xdomain.methods import StructuralAnalogy
from xdomain.methods.structural_analogy import same_size
from xdomain.networks.patches import patch_stack
from xdomain.networks.pyramid import paired_sizes

SMALL = {"iterations": 2, "min_size": 16, "width": 4, "layers": 3}


class ClipAndPicture(SingleSample):
    """A clip of 4 frames of 16x24 pixels and a picture of 20x20."""

    domains, channels, image_size = ("clip", "still"), (3, 3), 24

    def __init__(self, **options):
        super().__init__(**{"steps_per_epoch": 4, **options})
        wide = photograph(16, 30)
        clip = torch.stack([wide[:, :, 2 * t : 2 * t + 24] for t in range(4)], 1)
        self.samples = {"a": clip, "b": photograph(20, 20, seed=1)}


def make(data=TwoImages, **options):
    return StructuralAnalogy(**{**SMALL, **facts(data()), **options})


GOLDEN = {"StructuralAnalogy": lambda: (make(iterations=2, optimizer=sgd), TwoImages())}


def trained(folder, data=TwoImages, **options):
    torch.manual_seed(1)
    method = make(data, **options)
    train(method, data(), folder)
    return method


@pytest.fixture(scope="module")
def method(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("analogy"))


def images(height=20, width=26, count=2, seed=3):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def up(picture, size):
    if picture.shape[2:] == size:
        return picture
    return F.interpolate(picture, size=size, mode="bicubic", antialias=True).clamp(-1, 1)


def drawn(m, role, i, x, base):
    """A generator's picture: what is added to the base, or at the two finest scales the whole picture."""
    y = torch.tanh(getattr(m, f"G_{role}")[i].body(x))
    return y + base if i < m.scales - m.hparams["switch_res"] else y


def climbed(m, role, scale):
    """What the scales below hand on, drawn at random."""
    amps = m.amps["ab".index(role)]
    y = torch.zeros(1, 3, *m.sizes[role][0])
    for i in range(scale):
        y = up(y, m.sizes[role][i])
        y = drawn(m, role, i, y + amps[i] * torch.randn(y.shape), y)
    return up(y, m.sizes[role][scale])


def known(m, role, scale, z):
    for i in range(scale):
        z = up(drawn(m, role, i, z, z), m.sizes[role][i + 1])
    return z


def load(m, update):
    m.load_state_dict(update[2])


SETTINGS = [
    (0, {}),
    (1, {}),
    (2, {"lambda_self": 0.7, "lambda_g": 0.3, "switch_res": 0}),
    (2, {"lambda_self": 0.7}),
    (1, {"fixed_z": False}),
]


@pytest.mark.parametrize(("scale", "settings"), SETTINGS, ids=str)
def test_one_batch_equals_the_formulas(scale, settings, tmp_path):
    options = {"alpha": 3.0, "beta": 5.0, "penalty": 0.3, **settings}
    watch = Watch(step=2 * scale + 1)
    run = make(optimizer=sgd, **options)
    torch.manual_seed(2)
    batches = TwoImages()
    train(run, batches, tmp_path, callbacks=[watch])
    m = make(**options)
    watch.rewind(m)
    assert [name for name, _, _ in watch.updates] == [f"d{scale}", f"g{scale}"]
    n, own, mixed = scale, options.get("lambda_self", 0), options.get("lambda_g", 1)
    r_a, r_b = (up(batches.samples[role][None].float() / 127.5 - 1, m.sizes[role][n]) for role in "ab")

    with torch.no_grad():
        z_a, z_b = (getattr(m, f"z_star_{role}") for role in "ab")
        if not m.fixed_z:
            z_a, z_b = (torch.randn(z.shape) for z in (z_a, z_b))
        known_a, known_b = known(m, "a", n, z_a), known(m, "b", n, z_b)
        before_a = climbed(m, "a", n)
        noise_a = m.amps[0, n] * torch.randn(before_a.shape)
        before_b = climbed(m, "b", n)
        noise_b = m.amps[1, n] * torch.randn(before_b.shape)
        if own:
            noisy_b, noisy_a = (r + amps[n] * torch.randn(r.shape) for r, amps in ((r_b, m.amps[1]), (r_a, m.amps[0])))

    def pictures():
        f_a, f_b = (drawn(m, role, n, x + z, x) for role, x, z in (("a", before_a, noise_a), ("b", before_b, noise_b)))
        fakes = {"a": [(1, f_a), (1, drawn(m, "a", n, f_b, f_b))], "b": [(1, f_b), (1, drawn(m, "b", n, f_a, f_a))]}
        if own:
            fakes["a"].append((own, drawn(m, "a", n, noisy_b, r_b)))
            fakes["b"].append((own, drawn(m, "b", n, noisy_a, r_a)))
        return f_a, f_b, fakes

    load(m, watch.updates[0])
    _, _, fakes = pictures()
    loss = 0
    for real, D, role in ((r_a, m.D_a[n], "a"), (r_b, m.D_b[n], "b")):
        loss = loss + sum(w * (D(fake.detach()).mean() - D(real).mean()) for w, fake in fakes[role])
        for w, fake in fakes[role]:
            x, y = same_size(real, fake.detach())
            assert x.shape == y.shape
            loss = loss + 0.3 * w * penalty(D, x, y, torch.rand(()))
    assert_gradients(watch.updates[0], loss, m)

    load(m, watch.updates[1])
    f_a, f_b, fakes = pictures()
    gan = [-sum(w * D(fake).mean() for w, fake in fakes[role]) for D, role in ((m.D_a[n], "a"), (m.D_b[n], "b"))]
    (_, m_ba), (_, m_ab) = fakes["a"][1], fakes["b"][1]
    rec = F.mse_loss(drawn(m, "a", n, known_a, known_a), r_a) + F.mse_loss(drawn(m, "b", n, known_b, known_b), r_b)
    cycle = F.mse_loss(drawn(m, "a", n, m_ab, m_ab), f_a) + F.mse_loss(drawn(m, "b", n, m_ba, m_ba), f_b)
    assert_gradients(watch.updates[1], gan[0] + mixed * gan[1] + 3 * rec + 5 * cycle, m)


def test_both_images_have_one_optimizer_of_a_kind(tmp_path):
    watch = Watch(step=0)
    run = make(optimizer=sgd)
    train(run, TwoImages(), tmp_path, callbacks=[watch], max_steps=1)
    (_, d, _), (_, g, _) = watch.updates
    assert {name[:5] for name in d} == {"D_a.0", "D_b.0"}
    assert {name[:5] for name in g} == {"G_a.0", "G_b.0"}


def test_a_scale_begins_with_the_weights_before_and_noise_for_what_is_missing(tmp_path):
    run = make()
    begin, seen = run.begin_scale, []

    def begin_scale(scale, batch):
        begin(scale, batch)
        for k, role in enumerate("ab"):
            if scale:
                nets = [getattr(run, f"{kind}_{role}") for kind in "GD"]
                for net in nets:
                    for a, b in zip(net[scale].parameters(), net[scale - 1].parameters(), strict=True):
                        assert torch.equal(a, b)
                z = getattr(run, f"z_star_{role}")
                missing = up(batch[role].image, run.sizes[role][scale]) - known(run, role, scale, z)
                assert run.amps[k, scale].item() == pytest.approx(0.1 * missing.square().mean().sqrt().item(), rel=1e-4)
                seen.append(scale)

    run.begin_scale = torch.no_grad()(begin_scale)
    train(run, TwoImages(), tmp_path)
    assert len(seen) == 2 * (run.scales - 1)
    assert (run.amps[:, 0] == 1).all()


def test_sizes_of_the_paper():
    with torch.device("meta"):
        shapes = ((220, 220), (165, 220))
        m = StructuralAnalogy(domains=("a", "b"), channels=(3, 3), image_size=220, shapes=shapes)
    counts = [sum(p.numel() for p in m.G_a[i].parameters()) for i in range(11)]
    assert counts == [29_763] * 4 + [114_819] * 4 + [450_819] * 3
    assert [G.residual for G in m.G_b] == [True] * 9 + [False] * 2
    assert [height for height, _ in m.sizes["a"]] == [18, 24, 30, 39, 49, 63, 81, 104, 134, 172, 220]
    assert (m.sizes["b"][0], m.sizes["b"][-1], len(m.sizes["b"])) == ((18, 24), (165, 220), 11)


def test_pairs_have_as_many_scales_as_the_image_that_needs_most():
    wide, small = paired_sizes([(300, 900), (40, 40)], 18, 220)
    assert len(wide) == len(small)
    assert [(s[0], s[-1]) for s in (wide, small)] == [((18, 54), (74, 220)), ((18, 18), (40, 40))]


def test_instance_norm_is_batch_norm_of_one_image_that_never_stops_training():
    ours = patch_stack(3, 8, 3, padding=1, norm="instance")
    theirs = patch_stack(3, 8, 3, padding=1, norm="batch").train()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    x = images(count=3)
    expected = torch.cat([theirs(one[None]) for one in x])
    torch.testing.assert_close(ours.eval()(x), expected, rtol=1e-4, atol=1e-5)
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in theirs.modules())


@pytest.mark.parametrize("options", [{}, {"fixed_z": False, "lambda_self": 1.0}], ids=str)
def test_resumes_in_the_middle_of_every_scale(options, tmp_path):
    assert_resumes_exactly(lambda: make(**options), TwoImages, tmp_path, (1, 3) if options else (5,))


def test_resumes_with_a_clip(tmp_path):
    assert_resumes_exactly(lambda: make(ClipAndPicture, min_size=12, lambda_self=1.0), ClipAndPicture, tmp_path, (3,))


def test_z_star_is_drawn_once_or_in_every_batch():
    for fixed in (True, False):
        m = make(fixed_z=fixed)
        assert torch.equal(m.known("a", 1, 1), m.known("a", 1, 1)) == fixed
        assert torch.equal(m.known("a", 0), m.z_star_a) == fixed
        assert {"z_star_a", "z_star_b", "amps"} <= set(m.state_dict())


def test_a_clip_shows_all_its_frames_and_each_has_its_own_z_star(tmp_path):
    m = make(ClipAndPicture, min_size=12, iterations=12)
    assert m.z_star_a.shape == (4, 3, 12, 18)
    seen = []
    example = m.example

    def remembering(role, batch):
        real, known = example(role, batch)
        if role == "a" and m.scale == 0:
            seen.append(next(t for t in range(4) if torch.equal(known[0], m.z_star_a[t])))
            assert torch.equal(real[0], m.reals("a", batch, 0)[seen[-1]])
        return real, known

    m.example = remembering
    train(m, ClipAndPicture(), tmp_path, max_steps=12)
    assert set(seen) == {0, 1, 2, 3}


def test_clips_are_translated_with_one_noise_for_all_frames(tmp_path):
    m = trained(tmp_path, ClipAndPicture, min_size=12, lambda_self=1.0)
    frame = images(16, 24, count=1)
    clip = frame[:, :, None].expand(-1, -1, 5, -1, -1)
    result = m.translate(clip, "clip", "still")
    assert result.shape == clip.shape
    assert all(torch.equal(result[:, :, 0], result[:, :, t]) for t in range(5))
    assert not torch.equal(result, m.translate(clip, "clip", "still"))
    torch.manual_seed(0)
    still = m.translate(frame, "clip", "still")
    torch.manual_seed(0)
    torch.testing.assert_close(m.translate(clip, "clip", "still")[:, :, 0], still)


@pytest.mark.parametrize("path", ["source", "target"])
@pytest.mark.parametrize(("source", "target"), [("left", "right"), ("right", "left")])
def test_translations_are_what_they_say(method, source, target, path):
    x = images(*method.shapes[method.domains.index(source)])
    a, b = ("ab"[method.domains.index(domain)] for domain in (source, target))
    n = method.scales - 1
    torch.manual_seed(5)
    y = method.translate(x, source, target, start=1, path=path)
    torch.manual_seed(5)
    with torch.no_grad():
        z = x
        through = a if path == "source" else b
        for i in range(1, n + 1):
            z = up(z, method.sizes[a][i])
            z = drawn(method, through, i, z + method.amps["ab".index(through), i] * torch.randn(z.shape), z)
        z = drawn(method, b, n, z, z) if path == "source" else z
    assert torch.equal(y, z.clamp(-1, 1))


def test_images_of_any_size_keep_it(method):
    for size in ((33, 17), (60, 90), (12, 40)):
        y = method.translate(images(*size), "left", "right")
        assert y.shape == (2, 3, *size)
        assert y.abs().max() <= 1
    torch.manual_seed(5)
    middle = method.translate(images(), "left", "right")
    torch.manual_seed(5)
    assert torch.equal(middle, method.translate(images(), "left", "right", start=method.scales // 2))


def test_samples_come_in_pairs(method):
    a, ab = method.sample_pairs(2)
    assert a.shape == ab.shape == (2, 3, *method.sizes["a"][-1])
    assert not torch.equal(a[0], a[1])
    torch.manual_seed(1)
    a, ab = method.sample_pairs(1, (15, 40))
    assert a.shape == (1, 3, 15, 40)
    torch.manual_seed(1)
    assert torch.equal(ab, method.sample(1, (15, 40)))
    with torch.no_grad():
        assert torch.equal(ab, drawn(method, "b", method.scales - 1, a, a).clamp(-1, 1))


def test_penalties_between_images_of_two_sizes_see_parts_of_both():
    x, y = images(14, 20, 1), images(18, 12, 1, seed=4)
    corners = set()
    for _ in range(40):
        u, v = same_size(x, y)
        assert u.shape == v.shape == (1, 3, 14, 12)
        (across,) = (k for k in range(9) if torch.equal(x[..., k : k + 12], u))
        (down,) = (k for k in range(5) if torch.equal(y[:, :, k : k + 14], v))
        corners.add((across, down))
    assert {k for k, _ in corners} == set(range(9))
    state = torch.get_rng_state()
    assert all(a is b for a, b in zip(same_size(x, x), (x, x), strict=True))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda m: m.translate(images(), "left", "right", start=9), "start is 9: give a scale from 0 to 2"),
        (lambda m: m.translate(images(), "left", "up"), "unknown domain 'up': this method knows left or right"),
        (lambda m: make(OneImage), "StructuralAnalogy learns from two images"),
        (lambda m: make(min_size=6), "min_size is 6, but 3 layers see patches of 7 pixels"),
        (lambda m: make().sample(1), "this StructuralAnalogy is not trained"),
    ],
)
def test_what_cannot_be_done_is_refused(method, call, sentence):
    with pytest.raises(UserError, match=sentence):
        call(copy.copy(method))
