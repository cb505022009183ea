"""The patch VAE-GAN against its formulas written out, for images and for clips, with separate passes for everything."""

import copy

import pytest
import torch
from torch.nn import functional as F
from torch.optim import SGD

from tests.methods.single import OneClip, OneImage, assert_resumes_exactly, facts, photograph
from tests.methods.test_singan import Watch, assert_gradients, fit, load_weights, penalty
from xdomain.batch import to_float
from xdomain.data.single import SingleSample
from xdomain.errors import UserError
from xdomain.methods import PatchVAEGAN

SMALL = {"iterations": 3, "factor": 0.5, "width": 4, "latent": 5, "layers": 3, "vae_levels": 2}
OF = {OneImage: {"min_size": 13}, OneClip: {"min_size": 10, "rates": [4, 2, 1]}}
both = pytest.mark.parametrize("data", [OneImage, OneClip])


class LongClip(SingleSample):
    """A clip of 4 frames, in which there are 2 stretches of 3."""

    domains, channels, image_size = ("video",), (3,), 12

    def __init__(self, **options):
        super().__init__(**{"steps_per_epoch": 4, **options})
        self.samples = {"a": torch.stack([photograph(12, 12, seed=t) for t in range(4)], 1)}


OF[LongClip] = {"min_size": 6, "rates": [2, 1], "factor": 0.4, "vae_levels": 1}


def sgd(parameters):
    return SGD(parameters, lr=0.05)


def make(data=OneClip, **options):
    return PatchVAEGAN(**{**SMALL, **OF[data], **facts(data()), **options})


GOLDEN = {
    "PatchVAEGAN": lambda: (make(iterations=1, optimizer=sgd), OneClip()),
    "PatchVAEGAN of an image": lambda: (make(OneImage, iterations=1, vae_levels=1, optimizer=sgd), OneImage()),
}


def trained(folder, data=OneClip, batch_size=1, **options):
    torch.manual_seed(1)
    method = make(data, **options)
    fit(method, data(batch_size=batch_size), folder)
    return method


@pytest.fixture(scope="module", params=[OneImage, OneClip])
def method(request, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("vaegan"), request.param)


def shrunk(sample, size, step=1):
    """A sample [3, (T,) H, W] of every ``step``-th frame at a size, as a batch of one."""
    if sample.ndim == 3:
        return F.interpolate(to_float(sample)[None], size=size, mode="bilinear", antialias=True)
    frames = to_float(sample[:, ::step].transpose(0, 1))
    return F.interpolate(frames, size=size[1:], mode="bilinear", antialias=True).transpose(0, 1)[None]


def enlarged(y, size):
    mode = "bilinear" if y.ndim == 4 else "trilinear"
    return F.interpolate(y, size=tuple(size), mode=mode, align_corners=True)


def level(m, i, y, noise=0.0):
    """A level of G, the newest first."""
    kept = enlarged(y, m.sizes[i])
    return torch.tanh(m.levels[i - 1].body(kept + noise) + kept)


def pictures(m, z, last, noises=()):
    y = torch.tanh(m.G_0(z))
    for i in range(1, last + 1):
        y = level(m, i, y, dict(noises).get(i, 0.0))
    return y


def begun_at(step, data, folder, **options):
    """The updates of one batch of two, and the method as it was before."""
    torch.manual_seed(2)
    watch, run = Watch(step), make(data, optimizer=sgd, **options)
    fit(run, data(batch_size=2), folder, callbacks=[watch])
    m = make(data, **options)
    watch.rewind(m)
    return m, watch.updates


def owners(gradients):
    return {".".join(name.split(".")[: 2 if name.startswith("levels") else 1]) for name in gradients}


@both
@pytest.mark.parametrize("at", [0, 1])
def test_a_vae_step_equals_the_formulas(at, data, tmp_path):
    m, [update] = begun_at(3 * at + 1, data, tmp_path, alpha=7.0, beta=0.8)
    assert update[0] == f"g{at}"
    sample = data().samples["a"]
    x_0, x = (shrunk(sample, m.sizes[i], (4, 2, 1)[i]) for i in (0, at))
    mu, logvar = m.E(torch.cat([x_0, x_0]))
    z = mu + torch.exp(0.5 * logvar) * torch.randn(mu.shape)
    losses = []
    for k in range(2):
        y_0, y = pictures(m, z[k : k + 1], 0), pictures(m, z[k : k + 1], at)
        losses.append(((y - x) ** 2).mean() + ((y_0 - x_0) ** 2).mean())
    kl = (-0.5 * (1 + logvar - mu**2 - logvar.exp())).mean()
    assert_gradients(update, 7 * sum(losses) / 2 + 0.8 * kl, m)
    assert owners(update[1]) == {"E", "G_0", *(["levels.0"] if at else [])}


def critic(D, *inputs):
    """D of each of the inputs, after one more step of the power iteration for all of them."""
    D.train()
    D(inputs[0])
    D.eval()
    return [D(x) for x in inputs]


@both
def test_a_gan_step_equals_the_formulas(data, tmp_path):
    m, updates = begun_at(7, data, tmp_path, alpha=7.0, penalty=0.3, noise=2.0)
    assert [name for name, _, _ in updates] == ["d2", "g2"]
    sample = data().samples["a"]
    x_0, x = (shrunk(sample, m.sizes[i], (4, 2, 1)[i]) for i in (0, 2))
    m.E.eval()
    mu, logvar = m.E(x_0)
    z = torch.randn(2, 5, *m.sizes[0])
    z_rec = mu + torch.exp(0.5 * logvar) * torch.randn(2, 5, *m.sizes[0])
    noises = [(2, m.amps[2] * torch.randn(2, 3, *m.sizes[2]))]
    y = torch.cat([pictures(m, z[k : k + 1], 2, [(i, n[k : k + 1]) for i, n in noises]) for k in range(2)])
    rec = torch.cat([pictures(m, z_rec[k : k + 1], 2) for k in range(2)])
    u, D = torch.rand(()), m.D["2"]

    fake, real = critic(D, y.detach(), x)
    l_d = fake.mean() - real.mean()
    D.train()
    D(x)
    D.eval()
    l_d = l_d + 0.3 * penalty(D, x, y, u)
    assert_gradients(updates[0], l_d, m)
    assert owners(updates[0][1]) == {"D"}

    load_weights(m, updates[1], "D")
    assert_gradients(updates[1], 7 * ((rec - x) ** 2).mean() - D(y).mean(), m)
    assert owners(updates[1][1]) == {"levels.1"}


def thousands(network):
    return round(sum(p.numel() for p in network.parameters()) / 1e3)


@pytest.mark.parametrize(
    ("shape", "expected"), [((144, 256), (223, 261, 189)), ((13, 144, 256), (669, 780, 564))], ids=["image", "clip"]
)
def test_sizes_of_the_paper(shape, expected):
    m = PatchVAEGAN(domains=("a",), channels=(3,), image_size=256, shapes=(shape,))
    assert (thousands(m.E), thousands(m.G_0), thousands(m.levels[0])) == expected
    assert [w for *_, w in m.sizes] == [32, 41, 51, 64, 81, 102, 128, 162, 204, 256]
    assert [h for *_, h, _ in m.sizes][::9] == [18, 144]
    assert sorted(m.D) == [str(i) for i in range(3, 10)]
    if len(shape) == 3:
        assert [t for t, _, _ in m.sizes] == [4, 4, 4, 5, 5, 5, 7, 7, 7, 13]
    settings = (m.alpha, m.beta, m.penalty, m.clip, m.lr_scale, m.train_depth, m.noise)
    assert settings == (10, 1, 0.1, 5, 0.2, 1, 0.1)


WIDE = {"min_size": 13, "factor": 0.75, "vae_levels": 2}  # five levels
TRAINED = [
    ({}, 0, {"E": 0, "G_0": 0}),
    ({}, 1, {"E": 1, "G_0": 1, "levels.0": 0}),
    ({}, 2, {"levels.1": 0}),
    ({}, 4, {"levels.3": 0}),
    ({"vae_levels": 4}, 3, {"E": 3, "G_0": 3, "levels.2": 0}),
    ({"train_depth": 2, "vae_levels": 4}, 3, {"E": 3, "G_0": 3, "levels.1": 1, "levels.2": 0}),
    ({"train_depth": 2}, 2, {"levels.1": 0}),
    ({"train_depth": 2}, 4, {"levels.2": 1, "levels.3": 0}),
]


@pytest.mark.parametrize(("settings", "at", "expected"), TRAINED, ids=str)
def test_what_learns_and_how_fast(settings, at, expected):
    m = make(OneImage, **{**WIDE, **settings})
    names = {id(p): n for n, p in m.named_parameters()}
    groups = m.build_optimizers()[f"g{at}"].param_groups
    found = {}
    for group in groups:
        (owner,) = owners([names[id(p)] for p in group["params"]])
        found[owner] = group["lr"]
    assert found == {name: pytest.approx(2e-4 * 0.2**distance) for name, distance in expected.items()}
    trained = [name for name in names.values() if _owner(name) in expected]
    assert sum(len(group["params"]) for group in groups) == len(trained)


def _owner(name):
    return next(iter(owners([name])))


def test_phases_have_the_optimisers_that_exist():
    assert [phase.optimizers for phase in make().build_phases()] == [("g0",), ("g1",), ("d2", "g2")]
    assert sorted(make().build_optimizers()) == ["d2", "g0", "g1", "g2"]
    everything = make(vae_levels=None)
    assert len(everything.D) == 0
    assert [phase.optimizers for phase in everything.build_phases()] == [("g0",), ("g1",), ("g2",)]


def test_what_is_trained_moves_and_nothing_else(tmp_path):
    run = make(OneImage, **WIDE)
    begin, states = run.begin_scale, []

    def begin_scale(scale, batch):
        begin(scale, batch)
        states.append(copy.deepcopy(run.state_dict()))

    run.begin_scale = begin_scale
    fit(run, OneImage(), tmp_path)
    states.append(run.state_dict())
    parts = [{"E", "G_0"}, {"E", "G_0", "levels.0"}, {"levels.1"}, {"levels.2"}, {"levels.3"}]
    for i, expected in enumerate(parts):
        copied = {f"levels.{i}", f"D.{i + 1}"}  # the next level begins as a copy
        moved = {n for n, v in states[i].items() if v.is_floating_point() and not torch.equal(v, states[i + 1][n])}
        owned = {".".join(n.split(".")[:2]) if n.startswith("D") else _owner(n) for n in moved} - copied
        assert owned == {"amps", *expected, *([f"D.{i}"] if i >= 2 else [])} - ({"amps"} if i == 4 else set())


@both
def test_levels_begin_as_copies_and_measure_their_noise(data, tmp_path):
    run, measured = make(data, **(WIDE if data is OneImage else {})), {}
    begin = run.begin_scale

    def begin_scale(scale, batch):
        random = torch.get_rng_state()
        begin(scale, batch)
        if scale > 1:
            newer, older = run.levels[scale - 1].state_dict(), run.levels[scale - 2].state_dict()
            assert all(torch.equal(newer[name], older[name]) for name in older)
        if scale > 2:
            newer, older = (run.D[str(i)].state_dict() for i in (scale, scale - 1))
            assert all(torch.equal(newer[name], older[name]) for name in older)
        if scale >= 2:  # E rests
            torch.set_rng_state(random)
            mu, logvar = run.E(run.real(0))
            rec = pictures(run, mu + torch.exp(logvar / 2) * torch.randn(mu.shape), scale)
            measured[scale] = (rec - run.real(scale)).square().mean().sqrt().item()

    run.begin_scale = begin_scale
    fit(run, data(), tmp_path)
    assert run.amps[0] == 1
    for scale, error in measured.items():
        assert run.amps[scale].item() == pytest.approx(0.1 * error, rel=1e-4)


def test_the_noise_can_be_shared_out_over_the_batch(tmp_path):
    amps = [trained(tmp_path / str(share), batch_size=2, share_noise=share, iterations=1).amps for share in (0, 1)]
    torch.testing.assert_close(amps[1][1], amps[0][1] / 2)


def test_the_first_batch_of_a_level_is_where_it_begins(tmp_path):
    run = trained(tmp_path, OneImage, iterations=1)
    assert run.begun == 3
    assert not torch.equal(run.levels[0].body[0][0].weight, run.levels[1].body[0][0].weight)


@both
def test_resumes_in_the_middle_of_every_level(data, tmp_path):
    assert_resumes_exactly(lambda: make(data), data, tmp_path, (1, 4, 7))


def test_options_resume_too(tmp_path):
    options = {"share_noise": True, "decay": 0.5, "iterations": 4}
    assert_resumes_exactly(lambda: make(OneImage, **options), OneImage, tmp_path, (9, 10))


def test_long_clips_are_learned_in_windows(tmp_path):
    assert_resumes_exactly(lambda: make(LongClip), LongClip, tmp_path, (1, 5))
    run = make(LongClip)
    assert (run.windows, run.sizes) == (2, [(2, 6, 6), (2, 9, 9), (3, 12, 12)])
    run.real_sample.copy_(LongClip().samples["a"])
    sample = to_float(LongClip().samples["a"])[None]
    for start in (0, 1):
        torch.testing.assert_close(run.real(2, start), sample[:, :, start : start + 3])
        expected = shrunk(LongClip().samples["a"][:, start:], (2, 6, 6), step=2)
        torch.testing.assert_close(run.real(0, start), expected[:, :, :2])
    assert {run.window() for _ in range(20)} == {0, 1}


def test_gradients_of_the_gans_do_not_reach_the_vae(tmp_path):
    _, updates = begun_at(7, OneImage, tmp_path)
    assert owners(updates[1][1]) == {"levels.1"}


def test_only_the_generator_is_clipped(tmp_path):
    run = make(OneImage, clip=1e-3, optimizer=lambda parameters: SGD(parameters, lr=1.0))
    moves, update = {}, run.step

    def step(name, loss):
        before = copy.deepcopy(run.state_dict())
        value = update(name, loss)
        moved = [(before[n] - p).square().sum() for n, p in run.named_parameters()]
        moves.setdefault(name, []).append(torch.stack(moved).sum().sqrt().item())
        return value

    run.step = step
    fit(run, OneImage(), tmp_path)
    assert moves["g2"] == pytest.approx([1e-3] * 3, rel=0.02)
    assert moves["g0"][0] == pytest.approx(1e-3, rel=0.02)
    assert max(moves["d2"]) > 1e-2


def test_the_spectral_norms_rest_in_the_update_of_the_generator(tmp_path):
    run = make(OneImage)
    states, update = [], run.step

    def step(name, loss):
        before = {n: b.clone() for n, b in run.D.named_buffers()} if name == "g2" else {}
        value = update(name, loss)
        states.extend((b, dict(run.D.named_buffers())[n].clone()) for n, b in before.items())
        assert all(module.training for module in run.D.modules())
        return value

    run.step = step
    fit(run, OneImage(), tmp_path)
    assert len(states) == 3 * 4  # batches; u and v of two layers
    assert all(torch.equal(a, b) for a, b in states)


def test_samples_of_any_size(method):
    size = method.sizes[-1]
    samples = method.sample(9)
    assert samples.shape == (9, 3, *size)
    assert samples.abs().max() < 1
    assert not torch.equal(samples[0], samples[1])
    other = (9, *((31, 18)[2 - (method.dims - 1) :])) if method.dims == 3 else (31, 18)
    assert method.sample(1, other).shape == (1, 3, *other)


def test_a_sample_does_not_depend_on_its_neighbours(method):
    z = method.latents(3)
    together = method.climb(method.decode(z), 1, 2)
    for k in range(3):
        alone = method.climb(method.decode(z[k : k + 1]), 1, 2)
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-4, atol=1e-5)
        method.train()
        torch.testing.assert_close(method.climb(method.decode(z[k : k + 1]), 1, 2), alone, rtol=1e-4, atol=1e-5)
        method.eval()


def test_samples_before_the_last_level(tmp_path):
    run = make()
    with pytest.raises(UserError, match="this PatchVAEGAN is not trained"):
        run.sample(1)
    fit(run, OneClip(), tmp_path, max_steps=4)
    assert run.sample(2).shape == (2, 3, *run.sizes[1])
    assert run.reconstruction().shape == (1, 3, *run.sizes[1])
    assert run.sizes[1] != run.sizes[2]


def test_reconstruction_is_without_chance(method):
    rec = method.reconstruction()
    assert torch.equal(rec, method.reconstruction())
    mu, _ = copy.deepcopy(method).eval().E(method.real(0))
    torch.testing.assert_close(rec, pictures(method, mu, 2))


def test_noise_stands_at_the_gan_levels_only(method):
    z = method.latents(1)
    y = method.decode(z)
    assert torch.equal(method.climb(y, 1, 1, 1), method.climb(y, 1, 1, 1))
    assert not torch.equal(method.climb(y, 1, 2, 1), method.climb(y, 1, 2, 1))


def test_aliasing_is_an_option():
    smooth, rough = (make(OneImage, antialias=flag) for flag in (True, False))
    for m in (smooth, rough):
        m.real_sample.copy_(OneImage().samples["a"])
    sample = to_float(OneImage().samples["a"])[None]
    torch.testing.assert_close(rough.real(0), F.interpolate(sample, size=rough.sizes[0], mode="bilinear"))
    assert (smooth.real(0) - rough.real(0)).abs().max() > 0.05


@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        (
            lambda: make(rates=[4, 3, 2, 1]),
            r"rates is \[4, 3, 2, 1\], which needs 13 frames, but the clip has 5",
        ),
        (lambda: make(rates=[0, 1]), r"rates is \[0, 1\]: give"),
        (lambda: make(rates=[]), r"rates is \[\]: give"),
        (lambda: make(vae_levels=4), "vae_levels is 4, but there are 3 levels"),
        (lambda: make(vae_levels=0), "vae_levels is 0: give at least 1"),
        (lambda: make(train_depth=0), "train_depth is 0: give at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(action, sentence):
    with pytest.raises(UserError, match=sentence):
        action()


def test_a_size_has_as_many_sides_as_the_sample(method):
    size = (20, 20) if method.dims == 3 else (3, 20, 20)
    with pytest.raises(UserError, match=f"give {'frames, ' if method.dims == 3 else ''}height and width"):
        method.sample(1, size)
