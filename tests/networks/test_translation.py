"""Networks of whole-domain translation: parameter counts of the published code, shapes, what is shared."""

import pytest
import torch
from torch import nn

from xdomain.networks import (
    ContentDiscriminator,
    ImagePool,
    MultiScaleDiscriminator,
    PairDiscriminator,
    PatchDiscriminator,
    PatchSampler,
    ResnetGenerator,
    UNetGenerator,
)
from xdomain.networks.drit import DRITAttributeEncoder, DRITContentEncoder, DRITGenerator
from xdomain.networks.munit import MUNITAutoencoders, adain
from xdomain.networks.ost import DigitAutoencoders, DigitDiscriminator, DrawingAutoencoders
from xdomain.networks.resnet_generator import BlurPool, BlurUpsample
from xdomain.networks.unit import ImageNorm, UNITAutoencoders


def count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (ResnetGenerator, 11_378_179),
        (lambda: ResnetGenerator(blocks=6), 7_837_699),
        (lambda: ResnetGenerator(antialias=True), 11_378_179),
        (PatchDiscriminator, 2_764_737),
        (lambda: PatchDiscriminator(layers=2), 662_977),
        (PairDiscriminator, 2_768_705),
        (UNetGenerator, 54_413_955),
        (lambda: UNetGenerator(depth=7), 41_828_995),
        (lambda: UNITAutoencoders((3, 3), share=0), 2 * 11_140_483),
        (lambda: UNITAutoencoders((3, 3), share=1), 2 * 11_140_483 - 2 * 1_180_160),
        (lambda: MUNITAutoencoders((3, 3)), 2 * 15_026_187),
        (lambda: DRITContentEncoder((3, 3)), 9_018_112),
        (lambda: DRITAttributeEncoder((3, 3)), 2_688_160),
        (lambda: DRITGenerator((3, 3)), 9_564_710),
        (lambda: ContentDiscriminator(256), 10_683_649),
        (MultiScaleDiscriminator, 8_271_171),
        (lambda: DigitAutoencoders((1, 3)), 566_400),
        (DigitDiscriminator, 663_296),
        (lambda: PatchSampler([3, 128, 256, 256, 256]), 560_384),
    ],
)
def test_parameters_are_those_of_the_published_code(network, parameters):
    with torch.device("meta"):
        assert count(network()) == parameters


@pytest.mark.parametrize(("layers", "field"), [(2, 34), (3, 70)])
def test_a_score_depends_on_a_patch_of_the_published_size(layers, field):
    D = PatchDiscriminator(1, 4, layers)
    for module in D.modules():  # norms look at the whole map
        if isinstance(module, nn.InstanceNorm2d):
            module.forward = lambda x: x
    image = torch.randn(1, 1, 160, 160, requires_grad=True)
    scores = D(image)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    rows = image.grad[0, 0].abs().sum(1).nonzero()
    assert int(rows.max() - rows.min()) + 1 == field


@pytest.mark.parametrize(
    "generator",
    [
        lambda: ResnetGenerator(3, 1, 4, 2),
        lambda: ResnetGenerator(3, 1, 4, 2, antialias=True),
        lambda: UNetGenerator(3, 1, 4, depth=3),
    ],
)
def test_generators_keep_the_size_of_multiples_of_their_stride(generator):
    network = generator().eval()
    size = (3 * network.stride, 2 * network.stride)
    output = network(torch.randn(2, 3, *size))
    assert output.shape == (2, 1, *size)
    assert output.abs().max() <= 1


def test_an_image_is_translated_by_itself():
    network = ResnetGenerator(3, 3, 4, 1)
    images = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(network(images)[1:2], network(images[1:2]))


def test_resampling_keeps_a_constant_and_the_mean_place():
    x = torch.full((1, 2, 8, 8), 0.7)
    torch.testing.assert_close(BlurPool()(x), torch.full((1, 2, 4, 4), 0.7))
    torch.testing.assert_close(BlurUpsample()(x), torch.full((1, 2, 16, 16), 0.7))
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    torch.testing.assert_close(BlurUpsample()(ramp)[0, 0, 0, 3:9], torch.tensor([1.25, 1.75, 2.25, 2.75, 3.25, 3.75]))


def test_maps_are_those_of_the_layers_and_nothing_behind_is_computed():
    network = ResnetGenerator(3, 3, 4, 2, antialias=True)
    images = torch.randn(1, 3, 16, 16)
    layers = [0, 4, 8, 12]
    wanted = []
    x = images
    for number, layer in enumerate(network):
        x = layer(x)
        if number in layers:
            wanted.append(x)
    output, maps = network.with_maps(images, layers)
    torch.testing.assert_close(output, x)
    for found in (maps, network.maps(images, layers)):
        for ours, theirs in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours, theirs)
    assert [m.shape[1] for m in maps] == [network.width_of(layer) for layer in layers]
    network[-2].register_forward_hook(lambda *_: pytest.fail("the last convolution ran"))
    network.maps(images, layers)


def test_samples_of_patches_have_unit_length_and_stand_at_their_places():
    sampler = PatchSampler([2, 4], 8, patches=5)
    maps = [torch.randn(3, 2, 4, 4), torch.randn(3, 4, 2, 2)]
    places = sampler.draw(maps)
    assert [len(place) for place in places] == [5, 4]
    features = sampler(maps, places)
    assert [f.shape for f in features] == [(3, 5, 8), (3, 4, 8)]
    torch.testing.assert_close(features[0].norm(dim=2), torch.ones(3, 5))
    one = sampler.heads[0](maps[0][1].flatten(1)[:, places[0][2]])
    torch.testing.assert_close(features[0][1, 2], one / one.norm())


def test_shared_blocks_are_the_same_and_private_ones_are_not():
    networks = UNITAutoencoders((3, 1), 4, blocks=2, share=1)
    first, second = networks.encoders
    assert first[-1] is second[-1]
    assert first[-2] is not second[-2]
    assert networks.decoders[0][0] is networks.decoders[1][0]
    assert networks.decode(networks.encode(torch.randn(2, 1, 16, 16), 1), 0).shape == (2, 3, 16, 16)
    with pytest.raises(ValueError, match="share is 3, but there are 2 blocks"):
        UNITAutoencoders((3, 1), 4, blocks=2, share=3)


@pytest.mark.parametrize("share", [0, 1, 2])
def test_a_code_becomes_images_of_both_domains_in_one_pass(share):
    networks = UNITAutoencoders((3, 1), 4, blocks=2, share=share)
    codes = torch.randn(2, 16, 4, 4)
    for domain, images in enumerate(networks.decode_into_both(codes)):
        torch.testing.assert_close(images, networks.decode(codes, domain))


def test_image_norm_is_that_of_the_formula():
    norm = ImageNorm(3)
    x = torch.randn(2, 3, 5, 5) * 4 + 1
    y = norm(x)
    torch.testing.assert_close(y[1], (x[1] - x[1].mean()) / (x[1].std() + 1e-5))


@pytest.mark.parametrize("private", [0, 1, 2])
def test_private_and_shared_weights_are_all_weights_once(private):
    networks = DrawingAutoencoders((3, 1), 4, halvings=2, private_halvings=private, blocks=1)
    groups = [*networks.private(0), *networks.private(1), *networks.shared()]
    assert sorted(map(id, groups)) == sorted(map(id, networks.parameters()))
    images = torch.randn(2, 3, 16, 16)
    assert networks.decode(networks.encode(images, 0), 1).shape == (2, 1, 16, 16)
    assert networks.encode(images, 0).shape == (2, 16, 4, 4)


def test_a_pool_returns_the_first_images_and_then_half_of_the_later_ones():
    pool = ImagePool(50, (1, 1, 1))
    numbers = torch.arange(2050.0).view(-1, 1, 1, 1)
    first = pool(numbers[:50])
    assert torch.equal(first, numbers[:50])
    back = torch.cat([pool(part) for part in numbers[50:].split(3)])
    own = (back == numbers[50:]).float().mean()
    assert 0.45 < own < 0.55
    assert int(pool.stored) == 50
    assert len(pool.images.unique()) == 50  # what is given out is replaced: nothing stands there twice


def test_a_pool_of_none_returns_the_images():
    images = torch.randn(2, 1, 2, 2, requires_grad=True)
    returned = ImagePool(0, (1, 2, 2))(images)
    assert torch.equal(returned, images)
    assert not returned.requires_grad


def test_a_pool_is_part_of_the_state():
    pool, other = ImagePool(4, (1, 2, 2)), ImagePool(4, (1, 2, 2))
    pool(torch.randn(3, 1, 2, 2))
    other.load_state_dict(pool.state_dict())
    torch.manual_seed(1)
    a = pool(torch.ones(6, 1, 2, 2))
    torch.manual_seed(1)
    assert torch.equal(other(torch.ones(6, 1, 2, 2)), a)


def test_adain_gives_maps_the_mean_and_deviation_of_a_style():
    x, shift, scale = torch.randn(2, 5, 8, 8) * 3 + 1, torch.randn(2, 5), torch.rand(2, 5) + 1
    y = adain(x, shift, scale)
    torch.testing.assert_close(y.mean((2, 3)), shift)
    torch.testing.assert_close(y.std((2, 3), correction=0), scale, rtol=1e-4, atol=1e-5)


def test_a_decoder_of_munit_remembers_no_style():
    """Styles are arguments: one call does not change the next, and every image of a batch has its own."""
    G = MUNITAutoencoders((3, 3), width=4, blocks=2, style=3)
    content, styles = torch.randn(1, 16, 4, 4), torch.randn(2, 3)
    first, second = (G.decode(content, style[None], 0) for style in styles)
    assert not torch.allclose(first, second, atol=1e-2)
    assert torch.equal(G.decode(content, styles[:1], 0), first)
    torch.testing.assert_close(G.decode(content.repeat(2, 1, 1, 1), styles, 0), torch.cat([first, second]))
    assert not list(G.buffers())


@pytest.mark.parametrize(("kernel", "halvings", "image"), [(7, 3, 216), (7, 2, 128), (3, 2, 64), (3, 0, 16)])
def test_a_content_discriminator_gives_one_score_for_content_of_its_least_size_and_more(kernel, halvings, image):
    D = ContentDiscriminator(4, kernel, halvings)
    assert D.least <= image // 4
    scores = nn.Sequential(*list(D)[:-2])
    assert scores(torch.randn(2, 4, D.least, D.least)).shape == (2, 1, 1, 1)
    larger = torch.randn(2, 4, 2 * D.least, D.least + 9)
    torch.testing.assert_close(D(larger)[:, 0], scores(larger).mean((1, 2, 3)))
    with pytest.raises((RuntimeError, ValueError)):
        D(torch.randn(2, 4, D.least - 1, D.least - 1))


def test_content_has_noise_in_training_only():
    E, x = DRITContentEncoder((3, 3), width=4, blocks=1), torch.randn(2, 3, 64, 64)
    noise = E(x, 0) - E.eval()(x, 0)
    assert noise.mean().item() == pytest.approx(0, abs=0.05)
    assert noise.std().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(E(x, 0), E(x, 0))
