"""SinGAN and ConSinGAN for clips against their formulas written out, with separate passes for everything."""

import copy

import pytest
import torch
from torch.nn import functional as F
from torch.optim import SGD

from tests.methods.single import OneClip, OneImage, assert_resumes_exactly, facts
from tests.methods.test_patch_vaegan import critic, enlarged, shrunk
from tests.methods.test_singan import Watch, assert_gradients, fit, load_weights, penalty
from xdomain.batch import to_float
from xdomain.errors import UserError
from xdomain.methods import ConSinGAN3D, SinGAN3D

SMALL = {"iterations": 3, "min_size": 10, "factor": 0.5, "rates": [4, 2, 1], "width": 4, "critic_layers": 3}
LAYERS = {SinGAN3D: 3, ConSinGAN3D: 2}
both = pytest.mark.parametrize("kind", [SinGAN3D, ConSinGAN3D])


def sgd(parameters):
    return SGD(parameters, lr=0.05)


def make(kind, data=OneClip, **options):
    return kind(**{**SMALL, "layers": LAYERS[kind], **facts(data()), **options})


GOLDEN = {
    kind.__name__: lambda kind=kind: (make(kind, iterations=2, optimizer=sgd), OneClip())
    for kind in (SinGAN3D, ConSinGAN3D)
}


def trained(folder, kind, **options):
    torch.manual_seed(1)
    method = make(kind, **options)
    fit(method, OneClip(), folder)
    return method


def part(name):
    """The part of a network that a parameter belongs to."""
    words = name.split(".")
    return ".".join(words[1:3]) if words[1] == "levels" else ".".join(words[:2]) if words[0] == "D" else words[1]


def clips(m, z, last, noises=None):
    """Clips by the whole of G: random ones, or without noises reconstructions."""
    edge, margin = lambda x, pixels: F.pad(x, [pixels] * 6), m.G.margin

    def wide(x, i):
        if noises is None:
            return edge(enlarged(x, m.sizes[i]), margin)
        return enlarged(x, [side + 2 * margin for side in m.sizes[i]]) + m.amps[i] * noises[i]

    if isinstance(m, SinGAN3D):
        x = m.G.levels[0](edge(z, margin))
        for i in range(1, last + 1):
            x = x.tanh()
            x = m.G.levels[i](wide(x, i)) + enlarged(x, m.sizes[i])
        return x.tanh()
    x = m.G.levels[0](edge(m.G.head(edge(z, 1)), margin))
    for i in range(1, last + 1):
        x = m.G.levels[i](wide(x, i)) + enlarged(x, m.sizes[i])
    return m.G.tail(edge(x, 1)).tanh()


@both
@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize("depth", [1, 2])
def test_one_batch_equals_the_formulas(kind, at, depth, tmp_path):
    options = {"alpha": 7.0, "penalty": 0.3, "noise": 2.0, "train_depth": depth}
    torch.manual_seed(3)
    watch, run = Watch(3 * at + 1), make(kind, optimizer=sgd, **options)
    for parameter in run.G.parameters():
        parameter.data.mul_(6)  # from the start of the paper nothing but biases reaches the end of so thin a network
    fit(run, OneClip(batch_size=2), tmp_path, callbacks=[watch])
    m = make(kind, **options)
    watch.rewind(m)
    assert [name for name, _, _ in watch.updates] == [f"d{at}", f"g{at}"]

    x = shrunk(OneClip().samples["a"], m.sizes[at], (4, 2, 1)[at])
    noises = [torch.randn(2, *m.G.noise_shape(i, m.sizes[i])) for i in range(at + 1)]
    y = torch.cat([clips(m, noises[0][k : k + 1], at, [n[k : k + 1] for n in noises]) for k in range(2)])
    u, D = torch.rand(()), m.D[str(at)]
    fake, real = critic(D, y.detach(), x)
    l_d = fake.mean() - real.mean()
    D.train()
    D(x)
    D.eval()
    assert_gradients(watch.updates[0], l_d + 0.3 * penalty(D, x, y, u), m)

    load_weights(m, watch.updates[1], "D")
    assert_gradients(watch.updates[1], 7 * ((clips(m, m.z_star, at) - x) ** 2).mean() - D(y).mean(), m)
    learned = {part(name) for name in watch.updates[1][1]}
    oldest = max(0, at - depth + 1)
    extra = {"tail", *(["head"] if at < depth else [])} if kind is ConSinGAN3D else set()
    assert learned == {f"levels.{i}" for i in range(oldest, at + 1)} | extra


def test_sizes_of_the_paper():
    paper = {"domains": ("a",), "channels": (3,), "image_size": 256, "shapes": ((13, 144, 256),)}
    sg, csg = SinGAN3D(**paper), ConSinGAN3D(**paper)
    assert [[type(m).__name__ for m in level.modules()].count("Conv3d") for level in sg.G.levels] == [7] * 10
    assert [[type(m).__name__ for m in level.modules()].count("Conv3d") for level in csg.G.levels] == [5] * 10
    assert (sg.G.margin, csg.G.margin, sg.train_depth, csg.train_depth) == (7, 5, 1, 3)
    assert sg.sizes == csg.sizes
    assert (sg.sizes[0], sg.sizes[-1]) == ((4, 18, 32), (13, 144, 256))
    assert sg.clip is None
    assert {p.shape[0] for name, p in sg.D.named_parameters() if name.endswith("original")} == {64}


@both
def test_older_levels_learn_slower(kind):
    m = make(kind, train_depth=2, lr_scale=0.5)
    names = {id(p): part(n) for n, p in m.named_parameters()}
    rates = []
    for i in range(3):
        groups = m.build_optimizers()[f"g{i}"].param_groups
        rates.append({names[id(group["params"][0])]: group["lr"] / 2e-4 for group in groups})
    expected = [{"levels.0": 1}, {"levels.0": 0.5, "levels.1": 1}, {"levels.1": 0.5, "levels.2": 1}]
    if kind is ConSinGAN3D:
        for i, head in enumerate([{"head": 1}, {"head": 0.5}, {}]):
            expected[i] |= {"tail": 1, **head}
    assert rates == [{name: pytest.approx(rate) for name, rate in level.items()} for level in expected]


@both
def test_levels_begin_as_copies_and_measure_their_noise(kind, tmp_path):
    run = make(kind, train_depth=1)
    begin, states, seen = run.begin_scale, {}, {}

    def begin_scale(scale, batch):
        begin(scale, batch)
        states[scale] = copy.deepcopy(run.state_dict())
        if scale:
            for newer, older in (
                (run.G.levels[scale], run.G.levels[scale - 1]),
                (run.D[str(scale)], run.D[str(scale - 1)]),
            ):
                assert all(torch.equal(a, b) for a, b in zip(newer.parameters(), older.parameters(), strict=True))
            x = shrunk(OneClip().samples["a"], run.sizes[scale], (4, 2, 1)[scale])
            seen[scale] = (clips(run, run.z_star, scale) - x).square().mean().sqrt().item()

    run.begin_scale = begin_scale
    fit(run, OneClip(), tmp_path)
    assert run.amps.tolist() == pytest.approx([1.0, 0.1 * seen[1], 0.1 * seen[2]], rel=1e-4)
    last = run.state_dict()
    for name in ("G.levels.0.0.0.weight", "D.0.2.weight"):
        assert torch.equal(last[name], states[1][name])
        assert not torch.equal(last[name], states[0][name])
    assert torch.equal(last["z_star"], states[0]["z_star"])


@both
def test_resumes_in_the_middle_of_every_level(kind, tmp_path):
    assert_resumes_exactly(lambda: make(kind, train_depth=2), OneClip, tmp_path, (1, 4, 7))


@both
def test_samples_of_any_size(kind, tmp_path):
    run = make(kind)
    with pytest.raises(UserError, match=f"this {kind.__name__} is not trained"):
        run.sample(1)
    fit(run, OneClip(), tmp_path / "stopped", max_steps=4)
    assert run.sample(5).shape == (5, 3, *run.sizes[1])
    assert run.reconstruction().shape == (1, 3, *run.sizes[1])
    fit(run, OneClip(), tmp_path / "finished")
    samples = run.sample(2)
    assert samples.shape == (2, 3, 5, 16, 20)
    assert samples.abs().max() <= 1
    assert not torch.equal(samples[0], samples[1])
    assert run.sample(1, (9, 14, 31)).shape == (1, 3, 9, 14, 31)
    assert torch.equal(run.reconstruction(), run.reconstruction())
    torch.testing.assert_close(run.reconstruction(), clips(run, run.z_star, 2))
    assert torch.equal(run.real_sample[0], OneClip().samples["a"])
    assert (to_float(run.real_sample) - run.real(2)).abs().max() < 1e-6


@both
def test_weights_begin_small_but_for_the_critic_with_spectral_norms(kind):
    m = make(kind, width=64)
    stds = [m.G.levels[i][1][0].weight.std().item() for i in range(3)]
    assert stds == pytest.approx([0.02] * 3, rel=0.05)
    usual = m.D["0"][1][0].parametrizations.weight.original.std().item()
    assert usual == pytest.approx((27 * 64 * 3) ** -0.5, rel=0.05)  # uniform up to 1 / sqrt(27 x 64)


@both
def test_images_have_methods_of_their_own(kind):
    with pytest.raises(UserError, match=f"{kind.__name__} learns clips: use {kind.__name__[:-2]} for an image"):
        make(kind, OneImage)
