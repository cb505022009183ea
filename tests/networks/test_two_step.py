"""Networks of the two-step method: parameter counts of the authors' code, shapes, initial weights."""

import pytest
import torch

from tests.methods.faces import millions
from xdomain.networks import ConditionalGenerator, LatentEncoder, TwoHeadDiscriminator


@pytest.mark.parametrize(
    ("size", "latent", "widths", "expected"),
    [
        (64, 100, (128, 64, 64), ("18.94", "4.33", "5.13")),
        (64, 100, (64, 32, 32), ("5.17", "1.09", "1.49")),
        (32, 64, (32, 32, 32), ("1.15", "1.08", "1.14")),
    ],
)
def test_sizes_of_the_paper_and_of_the_light_variants(size, latent, widths, expected):
    with torch.device("meta"):
        G = ConditionalGenerator(3, size, latent, 2, width=widths[0])
        D = TwoHeadDiscriminator(3, size, 2, width=widths[1])
        E = LatentEncoder(3, size, latent, width=widths[2])
    assert tuple(map(millions, (G, D, E))) == expected


def test_number_of_parameters_layer_by_layer():
    def norm(channels):
        return 2 * channels

    deconvolutions = [(1024, 512), (512, 256), (256, 128)]
    g = 105 * 1024 * 16 + norm(1024) + sum(25 * a * b + norm(b) for a, b in deconvolutions) + 25 * 128 * 3 + 3 + 2 * 5
    trunk = 25 * 3 * 64 + 64 + sum(25 * a * b + norm(b) for a, b in [(64, 128), (128, 256), (256, 512)])
    counted = [
        sum(p.numel() for p in network.parameters())
        for network in (
            ConditionalGenerator(3, 64, 100, 2),
            TwoHeadDiscriminator(3, 64, 2),
            LatentEncoder(3, 64, 100),
        )
    ]
    assert counted == [g, trunk + (8192 + 1) * 3, trunk + 8193 * 100]


def test_shapes_and_ranges():
    torch.manual_seed(0)
    G = ConditionalGenerator(1, 32, 7, 3, width=4)
    images = G(100 * torch.randn(5, 7), torch.tensor([0, 1, 2, 0, 1]))
    assert images.shape == (5, 1, 32, 32)
    assert images.abs().max() <= 1
    source, kind = TwoHeadDiscriminator(1, 32, 3, width=4)(images)
    assert (source.shape, kind.shape) == ((5,), (5, 3))
    assert LatentEncoder(1, 32, 7, width=4)(images).shape == (5, 7)


def test_the_class_changes_the_image_and_only_through_its_embedding():
    G = ConditionalGenerator(3, 16, 7, 2, width=4).eval()
    z = torch.randn(2, 7)
    first, second = (G(z, torch.full((2,), y)) for y in (0, 1))
    assert not torch.equal(first, second)
    with torch.no_grad():
        G.embedding.weight[1] = G.embedding.weight[0]
    torch.testing.assert_close(G(z, torch.ones(2, dtype=torch.int64)), first)


def test_initial_weights():
    torch.manual_seed(0)
    G = ConditionalGenerator(3, 64, 100, 20)
    assert G.embedding.weight.abs().max() <= 0.1
    assert G.embedding.weight.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.2)  # uniform
    assert G.layers[0].weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert G.layers[2].weight.mean().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("size", [8, 40])
def test_sizes_that_cannot_be_halved_four_times_are_refused(size):
    for make in (
        lambda: ConditionalGenerator(3, size, 7, 2),
        lambda: TwoHeadDiscriminator(3, size, 2),
        lambda: LatentEncoder(3, size, 7),
    ):
        with pytest.raises(ValueError, match=f"image_size is {size}, but must be a multiple of 16: the nearest is"):
            make()
