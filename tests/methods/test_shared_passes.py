"""Shared passes change no gradient: against the papers' formulas with every pass of its own, in 64 bits."""

import copy
from types import SimpleNamespace

import pytest
import torch

from tests.methods.domains import cyclegan_losses, score, tiny
from tests.methods.test_ost import make as ost
from xdomain.losses import patch_nce
from xdomain.methods import CUT, UNIT, CycleGAN


def images(size):
    draw = torch.Generator().manual_seed(3)
    return tuple(torch.randn(2, 3, size, size, generator=draw, dtype=torch.float64).tanh() for _ in range(2))


def gradients_of_a_batch(method, x, y, step=0):
    """Name and gradients of every update of one batch of two domains; no weight moves."""
    batch = {role: SimpleNamespace(image=image) for role, image in zip("ab", (x, y), strict=True)}
    return gradients_of(method, batch, step)


def gradients_of(method, batch, step=0):
    """Name and gradients of every update of one batch; no weight moves."""
    optimizers, updates = method.build_optimizers(), []
    method._trainer = SimpleNamespace(global_step=step)
    method.named_optimizer = optimizers.__getitem__
    method.log = method.log_dict = lambda *_, **__: None

    def step_of(name, loss):
        with method.updating(name) as optimizer:
            value = loss()
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        named = {n: p for n, p in method.named_parameters() if id(p) in own}
        updates.append((name, gradients(value, named)))
        return value.detach()

    method.step = step_of
    method.training_step(batch, 0)
    return updates


def gradients(loss, parameters):
    slopes = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {n: torch.zeros_like(p) if s is None else s for (n, p), s in zip(parameters.items(), slopes, strict=True)}


def assert_shared(method, naive, size=16, step=0):
    """That every update has the gradients of its naive loss."""
    method = method.double()
    m = copy.deepcopy(method)
    x, y = images(size)
    updates = gradients_of_a_batch(method, x, y, step)
    losses = naive(m, x, y)
    assert [name for name, _ in updates] == [name for name, _ in losses]
    for (name, found), (_, loss) in zip(updates, losses, strict=True):
        parameters = dict(m.named_parameters())
        expected = gradients(loss(), {n: parameters[n] for n in found})
        largest = max(slope.abs().max() for slope in expected.values())
        assert largest > 1e-4
        for key, slope in expected.items():
            torch.testing.assert_close(found[key], slope, rtol=1e-6, atol=1e-9 * float(largest), msg=f"{name}: {key}")


def l_judge(D, real, fake):
    return (score(D(real), 1) + score(D(fake.detach()), 0)) / 2


def cyclegan(m, x, y):
    """Six passes through the generators, four through the discriminators."""
    return [
        ("g", lambda: sum(cyclegan_losses(m, x, y).values())),
        ("d", lambda: l_judge(m.D_X, x, m.F(y)) + l_judge(m.D_Y, y, m.G(x))),
    ]


def test_four_passes_of_cyclegan_equal_six():
    assert_shared(tiny(CycleGAN), cyclegan)


def test_unit_equals_updates_that_encode_and_decode_for_themselves(monkeypatch):
    noise = [
        torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(4)
    ]
    drawn = iter(noise)
    monkeypatch.setattr(torch, "randn_like", lambda _: next(drawn))

    def naive(m, x, y):
        encode, decode, weights = m.G.encode, m.G.decode, m.weights

        def judge():
            fake_x, fake_y = decode(encode(y, 1) + noise[1], 0), decode(encode(x, 0) + noise[0], 1)
            return 2 * (l_judge(m.D_X, x, fake_x) + l_judge(m.D_Y, y, fake_y))

        def generators():
            xy, yx = decode(encode(x, 0) + noise[0], 1), decode(encode(y, 1) + noise[1], 0)
            xx, yy = decode(encode(x, 0) + noise[0], 0), decode(encode(y, 1) + noise[1], 1)
            back_x, back_y = decode(encode(xy, 1) + noise[2], 0), decode(encode(yx, 0) + noise[3], 1)
            codes = encode(x, 0), encode(y, 1), encode(xy, 1), encode(yx, 0)
            return (
                weights["l_gan"] * (score(m.D_X(yx), 1) + score(m.D_Y(xy), 1))
                + weights["l_reconstruction"] * ((xx - x).abs().mean() + (yy - y).abs().mean())
                + weights["l_cycle"] * ((back_x - x).abs().mean() + (back_y - y).abs().mean())
                + weights["l_kl"] * sum((code**2).mean() for code in codes)
            )

        return [("d", judge), ("g", generators)]

    assert_shared(tiny(UNIT, share=1, kl=0.5), naive)


@pytest.mark.parametrize("settings", [{}, {"identity": False}, {"flip": True}], ids=str)
def test_cut_equals_keys_and_translations_in_passes_of_their_own(settings, monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.tensor(0.1))  # mirrored, where there is a choice
    places = [torch.arange(7), torch.arange(3, 10), torch.arange(7), torch.arange(5, 12)]
    mirrored = bool(settings.get("flip"))

    def naive(m, x, y):
        def flip(tensor):
            return tensor.flip(3) if mirrored else tensor

        def nce(real):
            queries = [flip(q) for q in m.G.maps(m.G(flip(real)), m.layers)]
            features = m.H(queries, places), m.H(m.G.maps(real, m.layers), places)
            return sum(patch_nce(q, k.detach()) for q, k in zip(*features, strict=True)) / len(places)

        def generator():
            contrast = (nce(x) + nce(y)) / 2 if settings.get("identity", True) else nce(x)
            return score(m.D(m.G(flip(x))), 1) + contrast

        return [("d", lambda: l_judge(m.D, y, m.G(flip(x)))), ("g", generator)]

    method = tiny(CUT, **settings)
    monkeypatch.setattr(type(method.H), "draw", lambda self, maps: places)
    assert_shared(method, naive)


def y_loss(m, y, weight, distance):
    """Reconstruction and code of the second domain."""
    G = m.G
    return weight * distance(G.decode(G.encode(y, 1), 1), y) + 0.1 * (G.encode(y, 1) ** 2).mean()


def absolute(a, b):
    return (a - b).abs().mean()


def squared(a, b):
    return ((a - b) ** 2).mean()


@pytest.mark.parametrize("protocol", ["digits", "drawing"])
def test_phase_one_of_ost_equals_updates_with_passes_of_their_own(protocol):
    def naive(m, x, y):
        def own():
            return m.G.decode(m.G.encode(y, 1), 1)

        D = m.D_pretrained
        if protocol == "digits":
            generator = ("pretrain", lambda: score(D(own()), 1) + y_loss(m, y, 1, squared))
            judge = [
                ("d_pretrained", lambda: score(D(y), 1)),
                ("d_pretrained", lambda: score(D(own().detach()), 0)),
            ]
            return [*judge, generator]
        generator = ("pretrain", lambda: score(D(own()), 1) + y_loss(m, y, 10, absolute))
        return [generator, ("d_pretrained", lambda: l_judge(D, y, own()))]

    method, data = ost(protocol)
    assert_shared(method, naive, data.image_size)


@pytest.mark.parametrize("cycle", ["none", "one_way", "two_way"])
@pytest.mark.parametrize("protocol", ["digits", "drawing"])
def test_phase_two_of_ost_equals_updates_with_passes_of_their_own(protocol, cycle):
    digits = protocol == "digits"
    distance, weight = (squared, 1) if digits else (absolute, 10)

    def naive(m, x, y):
        x, y = x[:1], y[:1]  # a batch of phase II
        encode, decode = m.G.encode, m.G.decode

        def xy():
            return decode(encode(x, 0), 1)

        def yx():
            return decode(encode(y, 1), 0)

        def yy():
            return decode(encode(y, 1), 1)

        def x_loss():
            loss = score(m.D_Y(xy()), 1) + distance(decode(encode(x, 0), 0), x)
            if digits:
                loss = loss + score(m.D_X(yx()), 1)
            if cycle != "none":
                loss = loss + weight * distance(decode(encode(xy(), 1), 0), x)
            if cycle == "two_way":
                loss = loss + weight * distance(decode(encode(yx(), 0), 1), y)
            return loss

        if digits:
            return [
                ("d", lambda: score(m.D_X(x), 1) + score(m.D_Y(y), 1)),
                ("d", lambda: score(m.D_X(yx().detach()), 0) + score(m.D_Y(xy().detach()), 0)),
                ("x", x_loss),
                ("y", lambda: y_loss(m, y, 1, squared)),
            ]
        return [
            ("x", x_loss),
            ("y", lambda: score(m.D_Y(yy()), 1) + y_loss(m, y, 1, absolute)),
            ("d", lambda: l_judge(m.D_Y, y, xy()) + l_judge(m.D_Y, y, yy())),
        ]

    method, data = ost(protocol, cycle=cycle)
    assert_shared(method, naive, data.image_size, step=2)
