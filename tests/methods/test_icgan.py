"""IcGAN against its formulas: the conditional GAN, both encoders, and edits that are drawn anew."""

import copy

import pytest
import torch
from torch import nn

from tests.fakes.folders import write_picture
from tests.methods.editors import NAMES, SIZE, Heads, heads
from tests.methods.faces import Watch, fitted, millions, moved
from tests.methods.test_shared_passes import gradients, gradients_of
from tests.running.test_resume import differences
from tests.toys import trainer
from xdomain.errors import UserError
from xdomain.inference.folder import translate_folder
from xdomain.methods import IcGAN
from xdomain.networks import IcGANDiscriminator, IcGANEncoder, IcGANGenerator
from xdomain.optim import GANAdam


def generator(channels, size, latent, attributes):
    return IcGANGenerator(channels, size, latent, attributes, width=8)


def discriminator(channels, size, attributes):
    return IcGANDiscriminator(channels, size, attributes, width=4)


def encoder(channels, size, outputs):
    return IcGANEncoder(channels, size, outputs, width=4, hidden=8)


def make(**options):
    torch.manual_seed(1)
    common = {"domains": ("head",), "channels": (3,), "image_size": SIZE, "attributes": NAMES, "latent": 6}
    steps = {"gan_steps": 2, "latent_steps": 2, "attribute_steps": 2, "optimizer": lambda p: torch.optim.SGD(p, lr=0.1)}
    networks = {"generator": generator, "discriminator": discriminator}
    encoders = {"latent_encoder": encoder, "attribute_encoder": encoder}
    method = IcGAN(**{**common, **steps, **networks, **encoders, **options})
    with torch.no_grad():  # so that gradients are above the rounding
        for layer in (method.D.layers[-2], method.E_z[-1], method.E_y[-1]):
            layer.weight.normal_(0, 0.5)
    return method


GOLDEN = {"IcGAN": lambda: (make(latent_steps=1, attribute_steps=1, optimizer=GANAdam, ema=0.5), Heads())}


def of_real(logits):
    return -(1 / (1 + (-logits).exp())).log().mean()


def of_fake(logits):
    return -(1 - 1 / (1 + (-logits).exp())).log().mean()


def assert_gradients_of(method, expected, step):
    """Every update of a batch of heads has the gradients of a loss with passes of its own."""
    method = method.double()
    method.own = lambda table: table[:, :3].double()
    m = copy.deepcopy(method)
    sample, own, others = heads()
    z = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    method.noise = lambda count: z[:count]
    torch.manual_seed(5)
    updates = gradients_of(method, {"a": sample}, step)
    losses = expected(m, sample.image, own, others, z)
    assert [name for name, _ in updates] == [name for name, _, _ in losses]
    for (name, found), (_, network, loss) in zip(updates, losses, strict=True):
        assert {key.split(".")[0] for key in found} == {network}
        slopes = gradients(loss(), {n: p for n, p in m.named_parameters() if n in found})
        largest = max(float(slope.abs().max()) for slope in slopes.values())
        assert largest > 1e-4
        for key, slope in slopes.items():
            torch.testing.assert_close(found[key], slope, rtol=1e-6, atol=1e-9 * largest, msg=f"{name}: {key}")


def of_gan(m, x, own, others, z):
    """The paper's losses; the third image of the batch has the attributes that it was given as wrong ones."""
    y, wrong = 2 * own - 1, 2 * others - 1
    different = [i for i in range(4) if not torch.equal(own[i], others[i])]
    assert 0 < len(different) < 4

    def d():
        fake = of_fake(m.D(m.G(z, y).detach(), y))
        return of_real(m.D(x, y)) + 0.5 * fake + 0.5 * of_fake(m.D(x, wrong)[different])

    return [("d", "D", d), ("g", "G", lambda: of_real(m.D(m.G(z, y), y)))]


def of_latents(m, x, own, others, z):
    m.G.eval()
    return [("z", "E_z", lambda: ((m.E_z(m.G(z, 2 * own - 1)) - z) ** 2).sum() / z.numel())]


def of_attributes(m, x, own, others, z):
    return [("y", "E_y", lambda: ((m.E_y(x) - torch.where(own > 0, 1.0, -1.0)) ** 2).sum() / own.numel())]


@pytest.mark.parametrize(("step", "expected"), [(0, of_gan), (2, of_latents), (4, of_attributes)])
def test_gradients_of_a_batch_of_every_phase_in_64_bits(step, expected):
    assert_gradients_of(make(), expected, step)


class Modes(IcGAN):
    """Notes the phase, the network and its mode at every pass."""

    def watch(self):
        self.seen = []
        for name in ("G", "E_z", "E_y", "average"):
            if (network := getattr(self, name)) is not None:
                network.register_forward_pre_hook(
                    lambda net, _, n=name: self.seen.append((self.phase.name, n, net.training))
                )
        return self


@pytest.mark.parametrize("ema", [None, 0.5])
def test_one_pass_of_the_generator_serves_both_and_the_frozen_one_is_inverted(ema):
    method = make(ema=ema, gan_steps=1, latent_steps=1, attribute_steps=1)
    method.__class__ = Modes
    fitted(method.watch(), steps=3, data=Heads())
    drawn = "G" if ema is None else "average"
    assert method.seen == [
        ("adversarial", "G", True),
        ("inversion", drawn, False),
        ("inversion", "E_z", True),
        ("attributes", "E_y", True),
    ]


def test_every_phase_trains_its_own_networks_and_the_last_ends_the_training():
    method, watch = make(gan_steps=2, latent_steps=1, attribute_steps=2), Watch()
    run = trainer(max_epochs=-1, limit_val_batches=0, callbacks=[watch])
    run.fit(method, datamodule=Heads())
    assert run.global_step == 5
    assert [update.name for update in watch.updates] == ["d", "g", "d", "g", "z", "y", "y"]
    inverted, read = watch.updates[4].state, watch.updates[5].state
    assert moved(method, watch.updates[0].state) == {"G", "D", "E_z", "E_y"}
    assert moved(method, inverted) == {"E_z", "E_y"}
    assert moved(method, read) == {"E_y"}
    of_G = [key for key in inverted if key.startswith("G.")]
    assert all(torch.equal(inverted[key], method.state_dict()[key]) for key in of_G)  # its running statistics, too


# ---------------------------------------------------------------- edits


@pytest.mark.parametrize("ema", [None, 0.5])
def test_edits_are_drawn_from_the_latent_vector_and_the_signs_of_the_attributes(ema):
    method, x = make(ema=ema), torch.randn(8, 3, SIZE, SIZE).tanh()
    fitted(method, steps=6, data=Heads())
    m = copy.deepcopy(method).eval()
    G = m.G if ema is None else m.average
    y = m.E_y(x).sign()
    assert 0 < (y > 0).float().mean() < 1
    wanted = y.clone()
    wanted[:, 0], wanted[:, 2] = -1, 1
    method.train()
    for strength in (0.0, 1.0, 1.5):
        edited = method.edit(x, "+Glasses,-Black", strength)
        torch.testing.assert_close(edited, G(m.E_z(x), y + strength * (wanted - y)))
    torch.testing.assert_close(method.translate(x, "head", "head"), G(m.E_z(x), y))
    assert torch.equal(method.read(x), (y > 0).float())
    assert all(module.training for module in method.modules())


def test_what_is_added_takes_away_what_it_excludes():
    method = make(exclusive=[["Black", "Blond"]])
    method.read = lambda images: torch.tensor([[1.0, 0, 1]])
    labels = []
    method.G.register_forward_pre_hook(lambda _, inputs: labels.append(inputs[1].tolist()))
    method.edit(torch.zeros(1, 3, SIZE, SIZE), "+Blond")
    assert labels == [[[-1, 1, 1]]]


def test_a_large_image_is_drawn_anew_and_not_changed(tmp_path):
    """The whole face is another one: adding its difference to the image would show both."""
    write_picture(tmp_path / "in" / "large.png", 0, width=3 * SIZE, height=3 * SIZE)
    done = translate_folder(make(), tmp_path / "in", tmp_path / "out", task="edit", attributes="+Glasses")
    assert (done.images, done.enlarged) == (1, 0)


# ---------------------------------------------------------------- settings, resuming, networks


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gan_steps": 0}, "gan_steps is 0: give a number of at least 1"),
        ({"latent_steps": 0}, "latent_steps is 0: give a number of at least 1"),
        ({"attribute_steps": 0}, "attribute_steps is 0: give a number of at least 1"),
        ({"latent": 0}, "latent is 0: give a number of at least 1"),
        ({"ema": 1.0}, "ema is 1.0: give a decay of at least 0 and below 1"),
        ({"attributes": []}, r"attributes is \[\]: give at least one attribute"),
        ({"domains": ("a", "b"), "channels": (3, 3)}, "IcGAN edits the images of one domain, but the data has 2"),
    ],
    ids=str,
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        make(**options)


def test_a_batch_of_one_image_is_refused():
    with pytest.raises(UserError, match="IcGAN shows D images with the attributes of others: give a batch_size of at"):
        fitted(make(), data=Heads(batch_size=1))


def run(folder, stop=-1, resume=False):
    """The checkpoint at the end of a run of flipped images."""
    job = trainer(max_steps=stop, max_epochs=-1, limit_val_batches=0, run_dir=str(folder))
    checkpoint = str(folder / "checkpoints/last.ckpt") if resume else None
    job.fit(make(optimizer=GANAdam, ema=0.9), datamodule=Heads(), ckpt_path=checkpoint, weights_only=True)
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    return run(tmp_path_factory.mktemp("straight"))


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_stopped_run_resumes_bit_for_bit_in_every_phase(stop, straight, tmp_path):
    assert straight["global_step"] == 6
    assert run(tmp_path, stop)["global_step"] == stop
    resumed = run(tmp_path, resume=True)
    for part in ("state_dict", "optimizer_states", "random_states"):
        assert differences(straight[part], resumed[part], part) == []


def count(network):
    return sum(p.numel() for p in network.parameters())


def test_sizes_of_the_papers_networks_layer_by_layer():
    with torch.device("meta"):
        g, d = IcGANGenerator(3, 64, 100, 18), IcGANDiscriminator(3, 64, 18)
        e_z, e_y = IcGANEncoder(3, 64, 100, hidden=4096), IcGANEncoder(3, 64, 18)
    ups = [(118, 512), (512, 256), (256, 128), (128, 64)]
    assert count(g) == sum(16 * a * b + 2 * b for a, b in ups) + 16 * 64 * 3 + 3
    downs = [(64 + 18, 128), (128, 256), (256, 512)]
    assert count(d) == 16 * 3 * 64 + 64 + sum(16 * a * b + 2 * b for a, b in downs) + 16 * 512 + 1
    convolutions = sum(25 * a * b + 2 * b for a, b in [(3, 32), (32, 64), (64, 128), (128, 256)])
    assert count(e_z) == convolutions + 4096 * 4096 + 2 * 4096 + 4096 * 100 + 100
    assert count(e_y) == convolutions + 4096 * 512 + 2 * 512 + 512 * 18 + 18
    assert [*map(millions, (g, d, e_z, e_y))] == ["3.72", "2.80", "18.27", "3.19"]  # as the docs have them


def test_attributes_join_the_images_behind_the_first_convolution():
    d = IcGANDiscriminator(3, SIZE, 2, width=4).eval()
    seen = []
    d.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x, y = torch.randn(5, 3, SIZE, SIZE), torch.randn(5, 2)
    logits = d(x, y)
    assert logits.shape == (5,)
    torch.testing.assert_close(logits, d.judged(d.maps(x), y))
    assert seen[0].shape == (5, 6, SIZE // 2, SIZE // 2)
    torch.testing.assert_close(seen[0][:, :4], nn.functional.leaky_relu(d.first[0](x), 0.2))
    assert torch.equal(seen[0][:, 4:], y[:, :, None, None].expand(-1, -1, SIZE // 2, SIZE // 2))
    images = IcGANGenerator(3, SIZE, 6, 2, width=8)(100 * torch.randn(5, 6), y)
    assert images.shape == (5, 3, SIZE, SIZE)
    assert images.abs().max() <= 1
    with pytest.raises(ValueError, match="image_size is 20, but must be a multiple of 16: the nearest is 16"):
        IcGANEncoder(3, 20, 2)
