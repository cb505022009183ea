"""The two-step method against its formulas: AC-GAN, encoder of the frozen generator, translation between N domains."""

import copy
import math

import numpy as np
import pytest
import torch

from tests.methods.faces import Faces, Watch, assert_gradients, fitted, moved, pictures
from tests.methods.test_shared_passes import gradients, gradients_of_a_batch, images
from tests.running.test_resume import differences
from tests.toys import trainer
from xdomain.batch import to_channels, to_float
from xdomain.data import ImageData
from xdomain.errors import UserError
from xdomain.methods import TwoStep
from xdomain.networks import ConditionalGenerator, LatentEncoder, TwoHeadDiscriminator
from xdomain.optim import GANAdam


class Three(Faces):
    """Three domains, the last one grey."""

    domains = ("red", "green", "grey")
    channels = (3, 3, 1)

    def data(self, role, split):
        rng = np.random.default_rng([ord(role), *split.encode()])
        return ImageData(rng.integers(0, 256, (12, 1 if role == "c" else 3, 16, 16), dtype=np.uint8))


def generator(channels, size, latent, classes):
    return ConditionalGenerator(channels, size, latent, classes, width=4, embedding=3)


def discriminator(channels, size, classes):
    return TwoHeadDiscriminator(channels, size, classes, width=4)


def encoder(channels, size, latent):
    return LatentEncoder(channels, size, latent, width=4)


def make(data=Faces, **options):
    torch.manual_seed(1)
    common = {"domains": data.domains, "channels": data.channels, "image_size": data.image_size, "latent": 6}
    steps = {"gan_steps": 2, "encoder_steps": 2, "optimizer": lambda p: torch.optim.SGD(p, lr=0.1)}
    networks = {"generator": generator, "discriminator": discriminator, "encoder": encoder}
    method = TwoStep(**{**common, **steps, **networks, **options})
    for head in (method.D.source, method.D.kind):  # so that gradients are above the rounding
        torch.nn.init.normal_(head.weight, 0, 0.5)
    return method


GOLDEN = {
    "TwoStep": lambda: (make(optimizer=GANAdam), Faces()),
    "TwoStep with an average and pixels": lambda: (make(optimizer=GANAdam, ema=0.5, inversion="pixels"), Faces()),
}


def of_real(logits):
    return torch.nn.functional.softplus(-logits).mean()


def of_fake(logits):
    return torch.nn.functional.softplus(logits).mean()


def of_class(logits, y):
    return (logits.logsumexp(1) - logits[torch.arange(len(y)), y]).mean()


def naive_d(m, x, y, z, class_on_fake):
    """D's loss, with a pass of its own through each network for every term."""
    fake = m.G(z, y).detach()
    loss = of_real(m.D(x)[0]) + of_fake(m.D(fake)[0]) + of_class(m.D(x)[1], y)
    return loss + of_class(m.D(fake)[1], y) if class_on_fake else loss


def naive_g(m, y, z):
    return of_real(m.D(m.G(z, y))[0]) + of_class(m.D(m.G(z, y))[1], y)


def fixed(method, *values):
    """Let the method draw these latent vectors in turn."""
    drawn = iter(values)
    method.noise = lambda count: next(drawn)
    return method


def noises(count, number, dtype=torch.float32):
    draw = torch.Generator().manual_seed(5)
    return [torch.randn(count, 6, generator=draw, dtype=dtype) for _ in range(number)]


@pytest.mark.parametrize("class_on_fake", [False, True])
@pytest.mark.parametrize("reuse_z", [False, True])
def test_the_shared_pass_changes_no_gradient_of_step_one(class_on_fake, reuse_z):
    method = make(class_on_fake=class_on_fake, reuse_z=reuse_z).double()
    m = copy.deepcopy(method)
    z, other = noises(4, 2, torch.float64)
    x_a, x_b = images(16)
    updates = gradients_of_a_batch(fixed(method, z, other), x_a, x_b)
    x, y = torch.cat([x_a, x_b]), torch.tensor([0, 0, 1, 1])
    losses = [
        ("d", lambda: naive_d(m, x, y, z, class_on_fake)),
        ("g", lambda: naive_g(m, y, z)),
        ("g", lambda: naive_g(m, y, z if reuse_z else other)),
    ]
    assert [name for name, _ in updates] == [name for name, _ in losses]
    for (name, found), (_, loss) in zip(updates, losses, strict=True):
        parameters = dict(m.named_parameters())
        expected = gradients(loss(), {n: parameters[n] for n in found})
        assert {n.split(".")[0] for n in found} == {name.upper()}
        largest = max(float(slope.abs().max()) for slope in expected.values())
        assert largest > 1e-4
        for key, slope in expected.items():
            torch.testing.assert_close(found[key], slope, rtol=1e-6, atol=1e-9 * largest, msg=f"{name}: {key}")


@pytest.mark.parametrize("inversion", ["latents", "pixels"])
def test_gradients_of_step_two_in_64_bits(inversion):
    method = make(inversion=inversion).double()
    m = copy.deepcopy(method)
    (z,) = noises(4, 1, torch.float64)
    x_a, x_b = images(16)
    torch.manual_seed(3)
    ((name, found),) = gradients_of_a_batch(fixed(method, z), x_a, x_b, step=2)
    m.G.eval()
    if inversion == "latents":
        torch.manual_seed(3)
        y = torch.randint(2, (4,))
        loss = ((m.E(m.G(z, y)) - z) ** 2).sum() / z.numel()
    else:
        x, y = torch.cat([x_a, x_b]), torch.tensor([0, 0, 1, 1])
        loss = ((m.G(m.E(x), y) - x) ** 2).sum() / x.numel()
    expected = gradients(loss, {n: p for n, p in m.named_parameters() if n in found})
    assert (name, {n.split(".")[0] for n in found}) == ("e", {"E"})
    for key, slope in expected.items():
        torch.testing.assert_close(found[key], slope, rtol=1e-6, atol=1e-12, msg=key)


def batch_of(data, number=0):
    loader = iter(data.train_dataloader())
    for _ in range(number + 1):
        batch, _, _ = next(loader)
    return [to_channels(to_float(batch[role].image), 3) for role in sorted(batch)]


def test_every_update_of_a_run_sees_the_weights_that_the_one_before_has_left():
    """The second update of G has a pass of its own, through the G that the first has moved, with the same z."""
    method, watch = make(Three), Watch()
    z = noises(12, 1)[0]
    fitted(fixed(method, z), data=Three(), callbacks=[watch])
    d, first, second = watch.updates
    assert [u.name for u in watch.updates] == ["d", "g", "g"]
    x, y = torch.cat(batch_of(Three())), torch.tensor([0] * 4 + [1] * 4 + [2] * 4)
    m = make(Three)
    m.load_state_dict(d.state)
    assert_gradients(d.gradients, naive_d(m, x, y, z, False), m, noise=1e-4)
    m.load_state_dict(first.state)
    assert_gradients(first.gradients, naive_g(m, y, z), m, noise=1e-4)
    m.load_state_dict(second.state)
    assert_gradients(second.gradients, naive_g(m, y, z), m, noise=1e-4)
    assert not torch.equal(first.state["G.layers.0.weight"], second.state["G.layers.0.weight"])


class Modes(TwoStep):
    """Notes the phase, the network and its mode at every pass."""

    seen: list

    def watch(self):
        self.seen = []
        for name in ("G", "D", "E", "average"):
            if (network := getattr(self, name)) is not None:
                network.register_forward_pre_hook(
                    lambda net, _, n=name: self.seen.append((self.phase.name, n, net.training))
                )
        return self


@pytest.mark.parametrize("ema", [None, 0.5])
def test_modes_and_passes(ema):
    method = make(ema=ema, gan_steps=1, encoder_steps=2)
    method.__class__ = Modes
    fitted(method.watch(), steps=3)
    drawn = "G" if ema is None else "average"
    one = [("adversarial", n, True) for n in ("G", "D", "D", "D", "G", "D")]
    two = [("inversion", drawn, False), ("inversion", "E", True)]
    assert method.seen == one + two + two


@pytest.mark.parametrize(
    ("inversion", "steps", "trained"),
    [
        ("latents", 2, {"G", "D"}),
        ("latents", 4, {"G", "D", "E"}),
        ("pixels", 4, {"G", "D", "E"}),
        ("optimised", 2, {"G", "D"}),
    ],
)
def test_phases_train_what_they_should(inversion, steps, trained):
    method = make(inversion=inversion)
    before = copy.deepcopy(method.state_dict())
    run = trainer(limit_val_batches=0, max_steps=steps, max_epochs=-1)
    run.fit(method, datamodule=Faces())
    assert moved(method, before) == trained
    assert run.global_step == steps


def test_step_two_leaves_the_generator_and_its_statistics_alone(tmp_path):
    states = {}
    for steps in (2, 4):
        method = make()
        fitted(method, steps=steps)
        states[steps] = method.G.state_dict()
    assert differences(states[2], states[4]) == []


def test_step_two_looks_at_no_image():
    """With other images in step two E becomes the same."""

    class Changed(Faces):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            batch = super().on_after_batch_transfer(batch, dataloader_idx)
            if self.trainer.global_step < 2:
                return batch
            return {role: sample._replace(image=-sample.image) for role, sample in batch.items()}

    weights = {}
    for inversion in ("latents", "pixels"):
        for kind in (Faces, Changed):
            method = make(inversion=inversion)
            torch.manual_seed(2)
            fitted(method, steps=4, data=kind())
            weights[inversion, kind] = method.E.state_dict()
    assert differences(weights["latents", Faces], weights["latents", Changed]) == []
    assert differences(weights["pixels", Faces], weights["pixels", Changed]) != []


def test_the_average_follows_the_generator():
    method = make(ema=0.75)
    means = {n: v.clone() for n, v in method.average.state_dict().items()}

    class Follow(Watch):
        def on_train_batch_end(self, trainer, pl_module, *_):
            if trainer.global_step <= 2:
                for name, value in pl_module.G.state_dict().items():
                    exact = 0.75 * means[name] + 0.25 * value if value.is_floating_point() else value.clone()
                    means[name] = exact

    fitted(method, steps=4, callbacks=[Follow()])
    for name, value in method.average.state_dict().items():
        torch.testing.assert_close(value, means[name], msg=name)
    z, y = noises(3, 1)[0], torch.tensor([1, 1, 1])
    method.average.eval()
    torch.testing.assert_close(method.draw(z, "plain"), method.average(z, y))


def test_translations_between_any_two_of_three_domains():
    method = make(Three)
    fitted(method, steps=4, data=Three())
    pairs = [(a, b) for a in Three.domains for b in Three.domains]
    assert set(method.directions) == set(pairs)
    assert method.directions[0] == ("red", "green")
    assert method.directions[-3:] == tuple((d, d) for d in Three.domains)
    m = copy.deepcopy(method).eval()
    method.train()
    for source, target in pairs:
        x = pictures(3)[:, : 1 if source == "grey" else 3]
        seen = x.expand(-1, 3, -1, -1)
        y = torch.full((3,), Three.domains.index(target))
        expected = m.G(m.E(seen), y)
        if target == "grey":
            expected = (expected * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
        torch.testing.assert_close(method.translate(x, source, target), expected)
    assert all(module.training for module in method.modules())
    with pytest.raises(UserError, match="no domain of this TwoStep"):
        method.translate(pictures(1), "red", "blue")


def test_optimised_latents_fit_the_image_and_each_image_for_itself():
    method = make(inversion="optimised", optimisation_steps=60)
    fitted(method, steps=2)
    with torch.no_grad():  # an image that G can draw
        method.G.layers[0].weight.mul_(20)
        x = method.draw(noises(3, 1)[0], "plain")
    with torch.inference_mode():
        z = method.latents(x, "plain")
        errors = (method.draw(z, "plain") - x).square().mean()
        at_start = (method.draw(torch.zeros(3, 6), "plain") - x).square().mean()
    assert errors < 0.3 * at_start
    alone = method.latents(x[:1], "plain")
    torch.testing.assert_close(alone, z[:1], rtol=1e-3, atol=1e-3)
    assert method.E is None
    assert all(p.grad is None or p.requires_grad for p in method.G.parameters())


def run(folder, stop=-1, resume=False, **options):
    """The checkpoint at the end of a run."""
    method = make(**{"optimizer": GANAdam, **options})
    job = trainer(max_steps=stop, max_epochs=-1, limit_val_batches=0, run_dir=str(folder))
    checkpoint = str(folder / "checkpoints/last.ckpt") if resume else None
    job.fit(method, datamodule=Faces(jitter=True, batch_size=2), ckpt_path=checkpoint, weights_only=True)
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.parametrize("stop", [1, 3, 4])
@pytest.mark.parametrize("inversion", ["latents", "pixels"])
def test_runs_resume_in_both_steps(stop, inversion, tmp_path):
    options = {"gan_steps": 3, "encoder_steps": 3, "ema": 0.9, "inversion": inversion}
    straight = run(tmp_path / "straight", **options)
    assert straight["global_step"] == 6
    stopped = run(tmp_path / "stopped", stop, **options)
    assert stopped["global_step"] == stop
    resumed = run(tmp_path / "stopped", resume=True, **options)
    for part in ("state_dict", "optimizer_states", "random_states"):
        assert differences(straight[part], resumed[part], part) == []


def test_the_loss_of_step_two_of_an_encoder_that_knows_nothing_is_one():
    method = make(encoder_steps=1)
    torch.nn.init.zeros_(method.E.head.weight)
    values = [fitted(method, steps=3).callback_metrics["l_e"].item()]
    assert values[0] == pytest.approx(1, abs=0.4)  # of 8 vectors of 6 numbers


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gan_steps": 0}, "gan_steps is 0: give a number of at least 1"),
        ({"encoder_steps": 0}, "encoder_steps is 0: give a number of at least 1"),
        ({"generator_updates": 0}, "generator_updates is 0: give a number of at least 1"),
        ({"latent": 0}, "latent is 0: give a number of at least 1"),
        ({"optimisation_steps": 0}, "optimisation_steps is 0: give a number of at least 1"),
        ({"ema": 1.0}, "ema is 1.0: give a decay of at least 0 and below 1"),
        ({"domains": ("one",), "channels": (3,)}, "translates between domains, but the data has only one"),
    ],
    ids=str,
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        make(**options)


def test_gradients_cannot_be_accumulated_over_the_updates_of_a_batch():
    with pytest.raises(UserError, match="steps more than once in a batch"):
        fitted(make(accumulate=2))


def test_losses_of_a_discriminator_that_knows_nothing():
    method = make(generator_updates=1)
    for head in (method.D.source, method.D.kind):
        torch.nn.init.zeros_(head.weight)
    logged = fitted(method).callback_metrics
    for name in ("l_real", "l_fake", "l_class"):
        assert logged[name].item() == pytest.approx(math.log(2), rel=1e-5)
