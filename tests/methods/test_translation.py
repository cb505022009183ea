"""CycleGAN, DistanceGAN, UNIT, CUT and pix2pix against their formulas, written without anything shared."""

import copy

import pytest
import torch
from torch.nn import functional as F

from tests.methods.faces import Faces, Watch, assert_gradients, first_batch, fitted, one_step, owners, pictures
from tests.running.test_resume import differences
from tests.toys import trainer
from xdomain.errors import UserError
from xdomain.losses import patch_nce
from xdomain.methods import CUT, UNIT, CycleGAN, DistanceGAN, Pix2Pix
from xdomain.networks import PairDiscriminator, PatchDiscriminator, ResnetGenerator, UNetGenerator
from xdomain.optim import GANAdam


def generator(channels_in, channels_out):
    return ResnetGenerator(channels_in, channels_out, width=4, blocks=1)


def unet(channels_in, channels_out):
    return UNetGenerator(channels_in, channels_out, width=4, depth=3, dropout=0.0)


def discriminator(channels):
    return PatchDiscriminator(channels, width=4, layers=1)


def pair_discriminator(channels):
    return PairDiscriminator(channels, width=4, layers=1)


LAYERS = (0, 4, 8, 12)
TINY = {
    CycleGAN: {"generator": generator, "discriminator": discriminator},
    DistanceGAN: {"generator": generator, "discriminator": discriminator},
    Pix2Pix: {"generator": unet, "discriminator": pair_discriminator},
    UNIT: {"width": 4, "blocks": 2, "discriminator": discriminator},
    CUT: {
        "width": 4,
        "blocks": 1,
        "discriminator": discriminator,
        "layers": (0, 4, 8, 12),
        "patches": 7,
        "features": 5,
    },
}


class Pairs(Faces):
    """The same with pairs in training."""

    pairs = True


def tiny(method, **options):
    settings = {k: v for k, v in TINY[method].items() if v is not None}
    torch.manual_seed(1)
    common = {"domains": Faces.domains, "channels": Faces.channels, "image_size": Faces.image_size}
    options = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.1), **common, **settings, **options}
    return method(**options)


def score(scores, real):
    return ((scores - real) ** 2).mean()


# CycleGAN


def cyclegan_losses(m, x, y, gan=1.0, cycle=10.0, identity=0.5):
    """Six passes through the generators."""
    losses = {}
    if gan:
        losses["l_gan"] = gan * (score(m.D_Y(m.G(x)), 1) + score(m.D_X(m.F(y)), 1))
    if cycle:
        losses["l_cycle"] = cycle * ((m.F(m.G(x)) - x).abs().mean() + (m.G(m.F(y)) - y).abs().mean())
    if identity and cycle:
        losses["l_identity"] = cycle * identity * ((m.G(y) - y).abs().mean() + (m.F(x) - x).abs().mean())
    return losses


@pytest.mark.parametrize("settings", [{}, {"identity": 0}, {"cycle": 0}, {"gan": 0, "cycle": 3.0}], ids=str)
def test_cyclegan_shares_passes_and_keeps_the_gradients(settings):
    method = tiny(CycleGAN, **settings)
    m = copy.deepcopy(method)
    updates, logged = one_step(method)
    x, y = first_batch()
    losses = cyclegan_losses(m, x, y, **settings)
    assert [update.name for update in updates] == (["g"] if settings.get("gan") == 0 else ["g", "d"])
    assert owners(updates[0].gradients) == {"G", "F"}
    assert_gradients(updates[0].gradients, sum(losses.values()), m, noise=1e-4)
    assert {name: logged[name] for name in losses} == pytest.approx({n: v.item() for n, v in losses.items()}, rel=1e-4)
    if len(updates) == 2:  # on the translations of before the generators' update
        with torch.no_grad():
            fake_x, fake_y = m.F(y), m.G(x)
        judged = score(m.D_X(x), 1) + score(m.D_X(fake_x), 0) + score(m.D_Y(y), 1) + score(m.D_Y(fake_y), 0)
        assert owners(updates[1].gradients) == {"D_X", "D_Y"}
        assert_gradients(updates[1].gradients, judged / 2, m, noise=1e-4)


def test_cyclegan_translates_each_way_by_its_network():
    method = tiny(CycleGAN)
    images = pictures(0)
    for source, target, network in (("plus", "plain", method.G), ("plain", "plus", method.F)):
        torch.testing.assert_close(method.translate(images, source, target), network(images))
    with pytest.raises(
        UserError, match="target is plus, but this CycleGAN translates from plus to plain or from plain to plus"
    ):
        method.translate(images, "plus", "plus")


def test_images_of_other_sizes_are_padded_to_the_stride_and_cut_back():
    method = tiny(CycleGAN)
    images = pictures(0)[:, :, :13, :14]
    output = method.translate(images, "plus", "plain")
    assert output.shape == images.shape
    padded = torch.cat([images, images[:, :, :, [-2, -3]]], 3)
    padded = torch.cat([padded, padded[:, :, [-2, -3, -4]]], 2)
    torch.testing.assert_close(output, method.G(padded)[:, :, :13, :14])


def test_cyclegan_needs_equal_channels_for_the_identity_loss_only():
    with pytest.raises(
        UserError, match=r"identity is 0.5, which needs as many channels .* they have 3 and 1: set it to 0"
    ):
        tiny(CycleGAN, channels=(3, 1))
    assert tiny(CycleGAN, channels=(3, 1), identity=0).translate(pictures(0), "plus", "plain").shape[1] == 1
    with pytest.raises(UserError, match="neither gan nor cycle"):
        tiny(CycleGAN, gan=0, cycle=0)


def test_a_run_resumes_with_a_pool_that_is_half_full(tmp_path):
    def run(folder, steps, **more):
        method = tiny(CycleGAN, pool=11, optimizer=GANAdam)  # 4 images a batch: full in the third
        fitted(method, steps, run_dir=str(folder), **more)
        return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)

    straight = run(tmp_path / "straight", 6)
    stopped = run(tmp_path / "stopped", 2)
    assert int(stopped["state_dict"]["pool_x.stored"]) == 8
    method = tiny(CycleGAN, pool=11, optimizer=GANAdam)
    job = trainer(max_steps=6, limit_val_batches=0, run_dir=str(tmp_path / "stopped"))
    job.fit(method, datamodule=Faces(), ckpt_path=str(tmp_path / "stopped/checkpoints/last.ckpt"), weights_only=True)
    resumed = torch.load(tmp_path / "stopped/checkpoints/last.ckpt", weights_only=True)
    for part in ("state_dict", "optimizer_states", "random_states"):
        assert differences(straight[part], resumed[part], part) == []


# DistanceGAN


def test_distance_gan_adds_its_losses_in_deviations_of_each_domain():
    method = tiny(DistanceGAN, pairs=0.7, halves=0.3)
    m = copy.deepcopy(method)
    updates, logged = one_step(method)
    x, y = first_batch()
    data = Faces()
    whole = [data.data(role, "train").images for role in "ab"]
    whole = [torch.from_numpy(images.copy()).float() / 127.5 - 1 for images in whole]

    def pairs(images):
        n = len(images)
        return torch.stack([(images[i] - images[j]).abs().mean() for i in range(n) for j in range(i + 1, n)])

    def halves(images):
        return (images[:, :, :8] - images[:, :, 8:]).abs().mean((1, 2, 3))

    def moved(distance, images, fakes, source, target):
        of, to = distance(whole[source]), distance(whole[target])
        before = (distance(images) - of.mean()) / of.std(correction=0)
        return (before - (distance(fakes) - to.mean()) / to.std(correction=0)).abs().mean()

    losses = cyclegan_losses(m, x, y, cycle=0, identity=0)
    for name, distance, weight in (("l_pairs", pairs, 0.7), ("l_halves", halves, 0.3)):
        losses[name] = weight * 2 * (moved(distance, x, m.G(x), 0, 1) + moved(distance, y, m.F(y), 1, 0))  # root of 4
    assert {name: logged[name] for name in losses} == pytest.approx({n: v.item() for n, v in losses.items()}, rel=1e-4)
    assert_gradients(updates[0].gradients, sum(losses.values()), m, noise=1e-4)


def test_distance_gan_needs_two_images_in_a_batch():
    with pytest.raises(UserError, match="batch_size of at least 2"):
        fitted(tiny(DistanceGAN), data=Faces(batch_size=1))
    with pytest.raises(UserError, match="neither pairs nor halves"):
        tiny(DistanceGAN, pairs=0)


# UNIT


def test_unit_judges_one_draw_of_noise_in_both_updates(monkeypatch):
    method = tiny(UNIT, share=1, reconstruction=3.0, cycle=2.0, kl=0.5)
    m = copy.deepcopy(method)
    noise = [torch.randn(4, 16, 4, 4, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    drawn = iter(noise)
    monkeypatch.setattr(torch, "randn_like", lambda _: next(drawn))
    updates, logged = one_step(method)
    x, y = first_batch()
    h_x, h_y = m.G.encode(x, 0), m.G.encode(y, 1)
    c_x, c_y = h_x + noise[0], h_y + noise[1]
    xy, yx = m.G.decode(c_x, 1), m.G.decode(c_y, 0)
    judged = score(m.D_X(x), 1) + score(m.D_X(yx.detach()), 0) + score(m.D_Y(y), 1) + score(m.D_Y(xy.detach()), 0)
    assert [update.name for update in updates] == ["d", "g"]
    assert_gradients(updates[0].gradients, judged, m, noise=1e-4)
    new = updates[1].state
    for name in ("D_X", "D_Y"):
        getattr(m, name).load_state_dict({k.removeprefix(f"{name}."): v for k, v in new.items() if k.startswith(name)})
    k_x, k_y = m.G.encode(xy, 1), m.G.encode(yx, 0)
    losses = {
        "l_gan": score(m.D_X(yx), 1) + score(m.D_Y(xy), 1),
        "l_reconstruction": (m.G.decode(c_x, 0) - x).abs().mean() + (m.G.decode(c_y, 1) - y).abs().mean(),
        "l_cycle": (m.G.decode(k_x + noise[2], 0) - x).abs().mean() + (m.G.decode(k_y + noise[3], 1) - y).abs().mean(),
        "l_kl": sum((code**2).mean() for code in (h_x, h_y, k_x, k_y)),
    }
    assert {name: logged[name] for name in losses} == pytest.approx({n: v.item() for n, v in losses.items()}, rel=1e-4)
    total = losses["l_gan"] + 3 * losses["l_reconstruction"] + 2 * losses["l_cycle"] + 0.5 * losses["l_kl"]
    assert owners(updates[1].gradients) == {"G"}
    assert_gradients(updates[1].gradients, total, m, noise=1e-4)


def test_unit_translates_without_noise_through_the_other_decoder():
    method = tiny(UNIT)
    images = pictures(0)
    first, second = (method.translate(images, "plus", "plain") for _ in range(2))
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, method.G.decode(method.G.encode(images, 0), 1))
    with pytest.raises(UserError, match="share is 3, but there are 2 blocks"):
        tiny(UNIT, share=3)


# pix2pix


@pytest.mark.parametrize("reverse", [False, True])
def test_pix2pix_equals_the_formulas(reverse):
    method = tiny(Pix2Pix, reverse=reverse, l1=5.0)
    m = copy.deepcopy(method)
    watch = Watch()
    fitted(method, data=Pairs(), callbacks=[watch])
    x, y = pair_batch()
    x, y = (y, x) if reverse else (x, y)
    fake = m.G(x)
    real, faked = m.D(torch.cat([x, y], 1)), m.D(torch.cat([x, fake.detach()], 1))
    judged = (F.softplus(-real).mean() + F.softplus(faked).mean()) / 2
    d, g = watch.updates
    assert_gradients(d.gradients, judged, m, noise=1e-4)
    m.D.load_state_dict({n.removeprefix("D."): v for n, v in g.state.items() if n.startswith("D.")})
    total = F.softplus(-m.D(torch.cat([x, fake], 1))).mean() + 5 * (fake - y).abs().mean()
    assert owners(g.gradients) == {"G"}
    assert_gradients(g.gradients, total, m, noise=1e-4)
    direction = ("plain", "plus") if reverse else ("plus", "plain")
    assert method.directions == (direction,)


def pair_batch():
    batch, _, _ = next(iter(Pairs().train_dataloader()))
    assert torch.equal(batch["a"].position, batch["b"].position)
    return batch["a"].image.float() / 127.5 - 1, batch["b"].image.float() / 127.5 - 1


def test_pix2pix_refuses_data_without_pairs():
    with pytest.raises(UserError, match="Pix2Pix learns from pairs, but Faces gives none: set its pairs"):
        fitted(tiny(Pix2Pix))


# CUT


@pytest.mark.parametrize("settings", [{}, {"identity": False}, {"flip": True, "identity": False}], ids=str)
def test_cut_equals_the_formulas(settings, monkeypatch):
    method = tiny(CUT, nce=2.0, **settings)
    m = copy.deepcopy(method)
    if settings.get("flip"):
        monkeypatch.setattr(torch, "rand", lambda *_: torch.tensor(0.1))  # mirrored
    places = [torch.arange(7), torch.arange(3, 10), torch.arange(7), torch.arange(5, 12)]
    monkeypatch.setattr(type(method.H), "draw", lambda self, maps: places)
    updates, logged = one_step(method)
    x, y = first_batch()
    mirrored = bool(settings.get("flip"))

    def nce(images, translations):
        queries = m.G.maps(translations, m.layers)
        if mirrored:
            queries = [q.flip(3) for q in queries]
        features = m.H(queries, places), m.H(m.G.maps(images, m.layers), places)
        return sum(patch_nce(q, k.detach()) for q, k in zip(*features, strict=True)) / 4

    fake = m.G(x.flip(3) if mirrored else x)
    judged = (score(m.D(y), 1) + score(m.D(fake.detach()), 0)) / 2
    assert [update.name for update in updates] == ["d", "g"]
    assert_gradients(updates[0].gradients, judged, m, noise=1e-4)
    m.D.load_state_dict({n.removeprefix("D."): v for n, v in updates[1].state.items() if n.startswith("D.")})
    total = score(m.D(fake), 1) + 2 * (
        (nce(x, fake) + nce(y, m.G(y))) / 2 if settings.get("identity", True) else nce(x, fake)
    )
    assert logged["l_g"] == pytest.approx(total.item(), rel=1e-4)
    assert owners(updates[1].gradients) == {"G", "H"}
    assert_gradients(updates[1].gradients, total, m, noise=1e-4)


def test_cut_refuses_layers_that_its_encoder_does_not_have():
    with pytest.raises(UserError, match=r"layers is \[0, 13\]: give rising numbers from 0 to 12"):
        tiny(CUT, layers=[0, 13])
