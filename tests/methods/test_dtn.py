"""The Domain Transfer Network against the formulas of the paper, written out with bare PyTorch."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD

from tests.toys import Jitter, ToyPair, trainer, weights
from xdomain.data import ImageData
from xdomain.errors import UserError
from xdomain.inference.loading import load
from xdomain.methods import DTN
from xdomain.networks import ConvDiscriminator, UpConvDecoder

SIZE, LR = 16, 0.05
SPEC = {"class_path": "ConvClassifier", "init_args": {"widths": [4, 4, 6], "image_size": SIZE, "classes": 4}}


class Pair(ToyPair):
    """Random images of 16x16, colour and grey, with labels."""

    domains = ("colour", "grey")
    image_size = SIZE
    root = None

    def data(self, role, split):
        rng = np.random.default_rng([ord(role), *split.encode()])
        shape = (20, {"a": 3, "b": 1}[role], SIZE, SIZE)
        return ImageData(rng.integers(0, 256, shape, dtype=np.uint8), rng.integers(0, 4, 20))


def sgd(parameters):
    return SGD(parameters, lr=LR)


def dtn(ready=True, **options):
    """A DTN of a few thousand weights; f has random weights and counts as trained."""
    torch.manual_seed(2)
    settings = {
        "f": SPEC,
        "g": partial(UpConvDecoder, width=8),
        "D": partial(ConvDiscriminator, width=4),
        "optimizer": sgd,
        "domains": Pair.domains,
        "channels": Pair.channels,
        "image_size": SIZE,
    }
    method = DTN(**{**settings, **options})
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if name.startswith(("g.", "D.")) and parameter.ndim == 4:
                parameter.mul_(5)  # the usual 0.02 hides what depends on the images
    method.f.ready.fill_(ready)
    return method


GOLDEN = {"DTN": lambda: (dtn(), Pair())}


def fitted(method, steps=1, data=None, **options):
    run = trainer(max_steps=steps, limit_val_batches=0, log_every_n_steps=1, **options)
    run.fit(method, datamodule=data or Pair())
    return run


def first_batch():
    batch, _, _ = next(iter(Pair().train_dataloader()))
    return batch["a"].image.float() / 127.5 - 1, batch["b"].image.float() / 127.5 - 1


def nll(logits, label):
    return (logits.logsumexp(1) - logits[:, label]).mean()


def golden_step(m, settings):
    """One step of D, then one of g, as the paper has them; returns the losses and changes the networks of ``m``."""
    alpha, beta, gamma = (settings.get(name, default) for name, default in (("alpha", 15), ("beta", 15), ("gamma", 0)))
    gan, norm = settings.get("gan", "ternary"), settings.get("feature_norm", "none")
    f, losses = m.f.network.eval(), {}
    x_a, x_b = first_batch()

    everything = torch.from_numpy(Pair().data("a", "train").images).float() / 127.5 - 1
    statistics = f.features(everything).detach()

    def content(images):
        h = f.features(images if images.shape[1] == 3 else torch.cat([images] * 3, 1))
        if norm == "tanh":
            return torch.tanh(h)
        return (h - statistics.mean(0)) / statistics.var(0).sqrt() if norm == "standardize" else h

    h_a, h_b = content(x_a).detach(), content(x_b).detach()
    m.g.train(), m.D.train()
    y = m.g(torch.cat([h_a, h_b]))  # one batch of both, of which BatchNorm takes its statistics
    y_a, y_b = y[: len(x_a)], y[len(x_a) :]

    def descend(network, loss):
        parameters = list(network.parameters())
        for parameter, slope in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            with torch.no_grad():
                parameter -= LR * slope

    if gan != "none":
        parts = [nll(m.D(y_a.detach()), 0)]
        parts += [nll(m.D(y_b.detach()), 1)] if gan == "ternary" else []
        losses["l_d"] = sum([*parts, nll(m.D(x_b), 2)])
        descend(m.D, losses["l_d"])

    seen = content(y_a)
    if settings.get("const_distance") == "cosine":
        losses["l_const"] = (1 - (seen * h_a).sum(1) / (seen.norm(dim=1) * h_a.norm(dim=1))).mean()
    else:
        losses["l_const"] = ((seen - h_a) ** 2).mean()
    losses["l_tid"] = ((y_b - x_b) ** 2).mean()
    total = alpha * losses["l_const"] + beta * losses["l_tid"]
    if gan != "none":
        losses["l_gang"] = nll(m.D(y_a), 2) + (nll(m.D(y_b), 2) if gan == "ternary" else 0)
        total = total + losses["l_gang"]
    if gamma:
        pairs = [(i.diff(dim=3)[..., :-1, :], i.diff(dim=2)[..., :-1]) for i in (y_a, y_b)]
        losses["l_tv"] = sum((((dx**2 + dy**2 + 1e-6).sqrt() - 1e-3).sum((2, 3))).mean() for dx, dy in pairs)
        total = total + gamma * losses["l_tv"]
    losses["l_g"] = total
    descend(m.g, total)
    return {name: value.item() for name, value in losses.items()}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"alpha": 0.0},
        {"beta": 0.0},
        {"gamma": 0.05},
        {"gan": "binary"},
        {"gan": "none"},
        {"feature_norm": "tanh"},
        {"feature_norm": "standardize"},
        {"const_distance": "cosine"},
        {"alpha": 3.0, "beta": 7.0, "cache_features": False},
    ],
    ids=str,
)
def test_one_step_equals_the_formulas(settings):
    method = dtn(**settings)
    straight = copy.deepcopy(method)
    run = fitted(method)
    expected = golden_step(straight, settings)
    logged = {name: v.item() for name, v in run.callback_metrics.items() if name.startswith("l_")}
    assert logged == pytest.approx(expected, rel=1e-4)
    for network in ("g", "D"):
        ours, theirs = getattr(method, network).state_dict(), getattr(straight, network).state_dict()
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, rtol=2e-3, atol=2e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("settings", [{}, {"feature_norm": "standardize"}], ids=str)
def test_cached_features_change_nothing(settings):
    cached, computed = dtn(**settings), dtn(cache_features=False, **settings)
    fitted(cached, steps=3)
    fitted(computed, steps=3)
    assert set(cached._cache) == {"a", "b"}
    assert computed._cache == {}
    for name, value in cached.state_dict().items():
        torch.testing.assert_close(value, computed.state_dict()[name], rtol=1e-4, atol=1e-6)


def seen_by_f(method, **options):
    """How many images f looked at as the content of a training of one batch, of 4 images a domain."""
    counts, features = [], method.f.features
    method.f.features = lambda images: counts.append(0 if images.requires_grad else len(images)) or features(images)
    fitted(method, **options)
    return sum(counts)


def test_f_looks_at_no_more_images_than_the_run_sees():
    assert seen_by_f(dtn()) == 8
    assert seen_by_f(dtn(), steps=30) == 40  # all images of both domains
    assert seen_by_f(dtn(feature_norm="standardize")) == 20 + 4  # the statistics are those of all


def test_a_resumed_training_has_the_same_features(tmp_path):
    straight = dtn()
    fitted(straight, steps=7, run_dir=str(tmp_path / "straight"))
    fitted(dtn(), steps=3, run_dir=str(tmp_path / "stopped"))
    resumed, last = dtn(), str(tmp_path / "stopped/checkpoints/last.ckpt")
    run = trainer(max_steps=7, limit_val_batches=0, log_every_n_steps=1, run_dir=str(tmp_path / "stopped"))
    run.fit(resumed, datamodule=Pair(), ckpt_path=last, weights_only=True)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_features_of_augmented_images_are_not_cached():
    method = dtn()
    fitted(method, data=Pair(jitter=True))
    assert method._cache == {}


def test_only_g_and_d_move_and_f_never():
    method = dtn()
    before = weights(method)
    fitted(method, steps=2)
    assert not method.f.network.training
    for name, value in method.state_dict().items():
        if name.startswith(("f.", "feature_")):
            assert torch.equal(value, before[name]), name
    for name, parameter in method.named_parameters():
        if not name.startswith("f."):
            assert not torch.equal(parameter, before[name]), name
            assert parameter.requires_grad
            assert parameter.grad is not None
        else:
            assert parameter.grad is None


def test_without_the_adversarial_terms_d_stays():
    method = dtn(gan="none")
    before = weights(method.D)
    run = fitted(method, steps=2)
    assert all(torch.equal(value, before[name]) for name, value in method.D.state_dict().items())
    assert not {"l_d", "l_gang"} & set(run.callback_metrics)


def test_a_learned_encoder_replaces_f_in_g_only():
    method = dtn(encoder="learned")
    before = weights(method)
    fitted(method, steps=2)
    assert not torch.equal(method.state_dict()["e.0.weight"], before["e.0.weight"])
    assert all(torch.equal(v, before[n]) for n, v in method.state_dict().items() if n.startswith("f."))
    images = torch.rand(3, 3, SIZE, SIZE) * 2 - 1
    method.eval()
    torch.testing.assert_close(method.translate(images, "colour", "grey"), method.g(method.e(images)))


def test_discriminator_hits_are_shares_of_its_classes():
    run = fitted(dtn())
    hits = {name: v.item() for name, v in run.callback_metrics.items() if name.startswith("d_accuracy/")}
    assert set(hits) == {"d_accuracy/fake_a", "d_accuracy/fake_b", "d_accuracy/real_b"}
    assert all(4 * value in (0, 1, 2, 3, 4) for value in hits.values())


@pytest.mark.parametrize("training", [True, False])
def test_translation_is_in_evaluation_mode_and_restores_the_mode(training):
    method = dtn().train(training)
    before = weights(method)
    images = torch.rand(3, 3, SIZE, SIZE) * 2 - 1
    translated = method.translate(images, "colour", "grey")
    assert translated.shape == (3, 1, SIZE, SIZE)
    assert method.g.training == method.D.training == training
    assert not method.f.network.training
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    straight = copy.deepcopy(method.g).eval()
    torch.testing.assert_close(translated, straight(method.f.network.features(images)))
    one_by_one = torch.cat([method.translate(image[None], "colour", "grey") for image in images])
    torch.testing.assert_close(translated, one_by_one)


def test_target_images_are_translated_into_their_own_domain():
    method = dtn().eval()
    images = torch.rand(3, 1, SIZE, SIZE) * 2 - 1
    expected = method.g(method.f.network.features(images.repeat(1, 3, 1, 1)))
    torch.testing.assert_close(method.translate(images, "grey", "grey"), expected)


def test_another_target_is_refused():
    with pytest.raises(UserError, match="translates into grey only, not into 'colour'"):
        dtn().translate(torch.zeros(1, 1, SIZE, SIZE), "grey", "colour")


def test_one_domain_is_refused():
    with pytest.raises(UserError, match="DTN translates between two domains, but the data has 1"):
        dtn(domains=("colour",), channels=(3,))


def test_f_without_weights_is_refused():
    with pytest.raises(UserError, match="no weights of its own"):
        fitted(dtn(ready=False))


def test_checkpoint_needs_nothing_else(tmp_path):
    method = dtn(feature_norm="standardize")
    fitted(method, steps=2, run_dir=str(tmp_path / "run"))
    file = tmp_path / "run" / "checkpoints" / "last.ckpt"
    content = torch.load(file, weights_only=True)
    assert content["hyper_parameters"]["f"]["class_path"] == "xdomain.networks.dcgan.ConvClassifier"
    content["hyper_parameters"] |= {  # what the command line adds to the settings made in Python
        "_class_path": "xdomain.methods.DTN",
        "g": {"class_path": "xdomain.networks.UpConvDecoder", "init_args": {"width": 8}},
        "D": {"class_path": "xdomain.networks.ConvDiscriminator", "init_args": {"width": 4}},
    }
    torch.save(content, file)
    loaded = load(tmp_path / "run")
    images = torch.rand(2, 3, SIZE, SIZE) * 2 - 1
    torch.testing.assert_close(
        loaded.translate(images, "colour", "grey"), method.translate(images, "colour", "grey"), rtol=0, atol=0
    )
    statistics = F.normalize(loaded.feature_mean, dim=0)
    assert statistics.norm().item() == pytest.approx(1.0, abs=1e-4)  # the statistics of the features came along
    assert loaded.f.ready


def test_f_may_be_a_network_of_torchvision_with_its_weights_in_a_file(tmp_path):
    torch.manual_seed(1)
    network = torchvision.models.squeezenet1_0(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "squeezenet.pth")
    f = f"torchvision:squeezenet1_0:{tmp_path / 'squeezenet.pth'}:layer=features.4"
    method = dtn(f=f, ready=False)
    before = weights(method.g)
    fitted(method, steps=2, run_dir=str(tmp_path / "run"))
    assert not any(torch.equal(p, before[name]) for name, p in method.g.named_parameters())
    images = torch.rand(2, 1, SIZE, SIZE) * 2 - 1
    unit = (images.expand(-1, 3, -1, -1) + 1) / 2
    seen = torchvision.transforms.functional.normalize(unit, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        torch.testing.assert_close(method.features(images), network.features[:5](seen).mean((2, 3)))
    (tmp_path / "squeezenet.pth").unlink()
    spec = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["hyper_parameters"]["f"]
    again = dtn(f=spec, ready=False)
    again.load_state_dict(method.state_dict())
    assert again.f.ready
    assert torch.equal(again.features(images), method.features(images))
    with pytest.raises(UserError, match=r"there are no weights .*squeezenet\.pth"):
        fitted(dtn(f=f, ready=False))
    with pytest.raises(UserError, match=r"posterior is 1\.0, but this f has features and no classes"):
        dtn(f=f, posterior=1.0)


def test_the_constancy_loss_sees_through_the_view():
    class Blank(nn.Module):
        def forward(self, images):
            return torch.zeros_like(images)

    method = dtn(view=Blank(), alpha=1.0, beta=0.0, gan="none")
    before = weights(method.g)
    fitted(method)
    still = [torch.equal(p, before[name]) for name, p in method.g.named_parameters()]
    assert all(still)  # a view that shows nothing gives no gradient
    moving = dtn(view=Jitter(), alpha=1.0, beta=0.0, gan="none")
    fitted(moving)
    assert not any(torch.equal(p, before[name]) for name, p in moving.g.named_parameters())
