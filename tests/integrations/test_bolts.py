"""The networks of lightning-bolts, what docs/bolts.md says of them, and ours beside them."""

import importlib.util
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.methods.domains import Pairs
from tests.methods.faces import fitted
from xdomain.classes import TRUSTED, find_class
from xdomain.data import ImageData
from xdomain.errors import UserError
from xdomain.integrations.bolts import BoltsGenerator, BoltsPatchGAN, import_bolts
from xdomain.methods import Method, Pix2Pix
from xdomain.networks import PairDiscriminator, UNetGenerator

needs_bolts = pytest.mark.skipif(
    importlib.util.find_spec("pl_bolts") is None, reason="lightning-bolts is not installed: run make bolts"
)


@pytest.mark.parametrize("network", [BoltsGenerator, BoltsPatchGAN])
def test_without_bolts_one_sentence_says_how_to_install_it(network, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^lightning-bolts is not installed: run `make bolts`, or `pip install"):
        network()


def test_checkpoints_may_name_its_networks():
    path = "xdomain.integrations.bolts.BoltsGenerator"
    assert find_class(Method, "generator", path, [nn.Module], TRUSTED) is BoltsGenerator


@pytest.fixture(scope="module")
def generator():
    """Its generator, with norms that do something: as they are drawn they are nearly 0."""
    torch.manual_seed(0)
    return lively(BoltsGenerator()).eval()


def lively(network):
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.2)
            nn.init.normal_(module.bias, 0.0, 0.2)
            nn.init.normal_(module.running_mean, 0.0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            fan_in = module.in_channels * module.weight[0, 0].numel()
            nn.init.normal_(module.weight, 0.0, (2 / fan_in) ** 0.5)
            nn.init.normal_(module.bias, 0.0, 0.2)
    return network


class Theirs(nn.Module):
    """What stands before their deconvolutions: LeakyReLU for what comes from the way down, nothing else."""

    def __init__(self, skipped):
        super().__init__()
        self.skipped = skipped

    def forward(self, x):
        return torch.cat([F.leaky_relu(x[:, : self.skipped], 0.2), x[:, self.skipped :]], 1)


def copy_norm(own, theirs, bias):
    """A convolution's bias is subtracted by the norm behind it: ours has none there."""
    own.load_state_dict(theirs.state_dict())
    own.running_mean -= bias


@torch.no_grad()
def copy_down(down, encoders):
    for own, theirs in zip(down, encoders, strict=True):
        convolution = next(m for m in own if isinstance(m, nn.Conv2d))
        convolution.weight.copy_(theirs.conv.weight)
        if isinstance(own[-1], nn.BatchNorm2d):
            copy_norm(own[-1], theirs.bn, theirs.conv.bias)
        else:
            convolution.bias = nn.Parameter(theirs.conv.bias.clone())


@torch.no_grad()
def with_their_faults(bolts):
    """Our U-Net with their weights: no ReLU on the way up, and nothing comes from the outermost level."""
    ours = UNetGenerator().eval()
    copy_down(ours.down, bolts.encoders)
    for number, (own, theirs) in enumerate(zip(ours.up, bolts.decoders, strict=True)):
        inputs = theirs.deconv.in_channels
        skipped = inputs if number == 0 else inputs // 2  # ours come first, theirs last
        own[0] = Theirs(skipped)
        own[1].weight.copy_(theirs.deconv.weight if number == 0 else theirs.deconv.weight.roll(inputs // 2, 0))
        copy_norm(own[2], theirs.bn, theirs.deconv.bias)
    ours.last[0] = nn.Identity()
    ours.last[1].weight[:64] = 0
    ours.last[1].weight[64:] = bolts.final_conv.weight
    ours.last[1].bias.copy_(bolts.final_conv.bias)
    return ours


@needs_bolts
@torch.no_grad()
def test_our_unet_with_their_faults_is_their_generator(generator):
    ours = with_their_faults(generator.network)
    images = torch.rand(1, 3, 256, 256) * 2 - 1
    theirs = generator(images)
    assert theirs.std() > 0.05
    torch.testing.assert_close(ours(images), theirs, rtol=1e-4, atol=1e-5)
    for change in (restore_relus, restore_skip):  # either fault is seen
        assert (change(with_their_faults(generator.network))(images) - theirs).abs().max() > 0.05


def restore_relus(ours):
    for up in ours.up:
        up[0] = nn.ReLU()
    return ours


def restore_skip(ours):
    nn.init.normal_(ours.last[1].weight[:64], 0.0, 0.05)
    return ours


@needs_bolts
@torch.no_grad()
def test_three_of_their_discriminators_convolutions_are_ours():
    theirs, ours = lively(BoltsPatchGAN()).eval(), [*PairDiscriminator().eval()]
    first, second, third = (getattr(theirs.network, name) for name in ("d1", "d2", "d3"))
    copy_down([ours[0:1], ours[2:4], ours[5:7]], [first, second, third])
    pairs = torch.randn(2, 6, 64, 64)
    torch.testing.assert_close(nn.Sequential(*ours[:8])(pairs), third(second(first(pairs))), rtol=1e-4, atol=1e-5)
    a, b = pairs.split(3, 1)
    assert torch.equal(theirs(pairs), theirs.network(a, b))


@needs_bolts
def test_their_parameters():
    with torch.device("meta"):
        found = [sum(p.numel() for p in network.parameters()) for network in (BoltsGenerator(), BoltsPatchGAN())]
    assert found == [54_416_387, 2_761_921]


@needs_bolts
def test_their_weights_are_drawn_as_they_draw_them():
    norms = [m for m in BoltsPatchGAN().modules() if isinstance(m, nn.BatchNorm2d)]
    weights = torch.cat([norm.weight.detach() for norm in norms])
    assert abs(float(weights.mean())) < 0.005
    assert float(weights.std()) == pytest.approx(0.02, rel=0.2)


@needs_bolts
def test_a_score_of_theirs_sees_46_pixels():
    network = lively(BoltsPatchGAN()).eval()
    pairs = torch.randn(1, 6, 256, 256, requires_grad=True)
    scores = network(pairs)
    assert scores.shape == (1, 1, 16, 16)
    scores[0, 0, 8, 8].backward()
    rows = pairs.grad[0].abs().sum((0, 2)).nonzero()
    assert int(rows.max() - rows.min()) + 1 == 46


@needs_bolts
def test_whole_channels_are_dropped():
    network = BoltsGenerator().network
    assert [isinstance(getattr(d, "drop", None), nn.Dropout2d) for d in network.decoders] == [True] * 3 + [False] * 4


@pytest.fixture
def module():
    """Their training module, without weights."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        return import_bolts("pl_bolts.models.gans.pix2pix.pix2pix_module").Pix2Pix(3, 3)


@needs_bolts
def test_settings_of_their_training(module):
    assert module.hparams.lambda_recon == 200
    assert [optimizer.defaults["betas"] for optimizer in module.configure_optimizers()] == [(0.9, 0.999)] * 2


@needs_bolts
def test_their_generator_runs_twice_for_a_batch(module):
    calls = []

    class Counted(nn.Module):
        def forward(self, x):
            calls.append(x)
            return x

    class Judge(nn.Module):
        def forward(self, x, y):
            return x + y

    module.gen, module.patch_gan = Counted(), Judge()
    real, condition = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    module._disc_step(real, condition)
    module._gen_step(real, condition)
    assert len(calls) == 2
    with pytest.raises(TypeError, match="optimizer_idx"):  # as Lightning 2 calls it
        module.training_step((real, condition), 0)


@needs_bolts
def test_most_of_the_rest_can_be_imported():
    bolts = import_bolts()
    for name in ("callbacks", "datamodules", "datasets", "losses", "metrics", "models", "optimizers", "transforms"):
        assert getattr(bolts, name).__name__ == f"pl_bolts.{name}"
    for name in ("models.gans", "models.self_supervised", "models.vision"):
        import_bolts(f"pl_bolts.{name}")


# ---------------------------------------------------------------- in a recipe


class Large(Pairs):
    image_size = 256

    def data(self, role, split):
        return ImageData(torch.randint(256, (2, 3, 256, 256), dtype=torch.uint8).numpy(), np.arange(2))


def pix2pix(data, **options):
    facts = {"domains": data.domains, "channels": data.channels, "image_size": data.image_size}
    return Pix2Pix(BoltsGenerator, BoltsPatchGAN, **facts, **options)


@needs_bolts
def test_pix2pix_learns_with_their_networks_at_256_pixels():
    data = Large(batch_size=1)
    method = pix2pix(data, optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    before = {name: p.clone() for name, p in method.named_parameters() if name.endswith("weight")}
    fitted(method, data=data, enable_checkpointing=False)
    still = [name for name, p in method.named_parameters() if name in before and torch.equal(p, before[name])]
    assert still == []
    assert method.translate(torch.zeros(1, 3, 256, 256), "plus", "plain").shape == (1, 3, 256, 256)


@needs_bolts
def test_smaller_images_are_refused_before_the_first_batch():
    data = Pairs()
    sentence = "this Pix2Pix learns from images whose sides are multiples of 256 pixels, but the data has 16x16"
    with torch.device("meta"):
        method = pix2pix(data)
    with pytest.raises(UserError, match=sentence):
        method.setup("fit")
