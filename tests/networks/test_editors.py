"""Networks of attribute editors: sizes of the papers' codes, the gates of STGAN's unit, where labels and maps join."""

import pytest
import torch
from torch import nn

from xdomain.networks import (
    AttGANDiscriminator,
    AttGANGenerator,
    SelectiveTransferUnit,
    StarGANDiscriminator,
    StarGANGenerator,
    STGANGenerator,
)


def count(kind, size, attributes, **options):
    with torch.device("meta"):
        return sum(p.numel() for p in kind(3, size, attributes, **options).parameters())


def conv(before, after, kernel, bias=False, norm=True):
    return before * after * kernel**2 + (after if bias else 0) + (2 * after if norm else 0)


@pytest.mark.parametrize(
    ("kind", "attributes", "millions"),
    [
        (AttGANDiscriminator, 10, "44.7"),
        (StarGANGenerator, 5, "8.4"),
        (StarGANDiscriminator, 5, "44.8"),
    ],
)
def test_sizes_that_were_measured_in_code_of_the_papers(kind, attributes, millions):
    assert f"{count(kind, 128, attributes) / 1e6:.1f}" == millions


@pytest.mark.parametrize("k", [1, 13])
def test_layers_of_both_generators_with_attribute_vectors(k):
    encoder = sum(conv(a, b, 4) for a, b in ((3, 64), (64, 128), (128, 256), (256, 512), (512, 1024)))
    one = [(1024 + k, 1024), (1024 + 512 + k, 512), (512, 256), (256, 128)]
    attgan = encoder + sum(conv(a, b, 4) for a, b in one) + conv(128, 3, 4, bias=True, norm=False)
    assert count(AttGANGenerator, 128, k) == attgan

    all_four = [(1024 + k, 1024), (1024 + 512 + k, 512), (512 + 256 + k, 256), (256 + 128 + k, 128)]
    decoder = sum(conv(a, b, 4) for a, b in all_four) + conv(128 + 64 + k, 3, 4, bias=True, norm=False)
    states = [(1024 + k, 512), (512 + k, 256), (256 + k, 128), (128 + k, 64)]
    units = sum(conv(a, b, 4, True, False) + 3 * conv(2 * b, b, 3, True, False) for a, b in states)
    assert count(STGANGenerator, 128, k) == encoder + decoder + units


@pytest.mark.parametrize("kind", [AttGANGenerator, STGANGenerator])
def test_smaller_images_have_fewer_layers(kind):
    g = kind(3, 16, 2, width=4)
    assert [tuple(m.shape[1:]) for m in g.encode(torch.zeros(2, 3, 16, 16))] == [(4, 8, 8), (8, 4, 4)]
    assert g(torch.zeros(2, 3, 16, 16), torch.zeros(2, 2)).shape == (2, 3, 16, 16)
    scores, logits = AttGANDiscriminator(3, 16, 2, width=4, hidden=5)(torch.zeros(2, 3, 16, 16))
    assert (scores.shape, logits.shape) == ((2, 1), (2, 2))
    with pytest.raises(ValueError, match="image_size is 20, but must be 4 times a power of two: the nearest is 16"):
        kind(3, 20, 2)


def test_stargan_judges_patches():
    scores, logits = StarGANDiscriminator(3, 16, 3, width=4)(torch.zeros(2, 3, 16, 16))
    assert (scores.shape, logits.shape) == ((2, 1, 2, 2), (2, 3))
    assert StarGANGenerator(3, 20, 3, width=4, blocks=1)(torch.zeros(2, 3, 20, 20), torch.zeros(2, 3)).shape[2:] == (
        20,
        20,
    )
    with pytest.raises(ValueError, match="image_size is 18, but must be a multiple of 4: the nearest is 16"):
        StarGANGenerator(3, 18, 3)


def test_gates_of_the_selective_transfer_unit_by_hand():
    """With kernels that see one value of each map, the unit is scalar arithmetic at every position."""
    unit = SelectiveTransferUnit(1, 1)
    weights = {"reset": (0.7, -0.4, 0.1), "update": (-0.3, 0.9, -0.2), "new": (1.1, 0.5, 0.3)}
    with torch.no_grad():
        unit.up.weight.zero_()
        unit.up.weight[0, 0, 1:3, 1:3] = 2.0  # every output gets one input, doubled
        unit.up.bias.fill_(0.25)
        for name, (of_map, of_state, bias) in weights.items():
            layer = getattr(unit, name)
            layer.weight.zero_()
            layer.weight[0, :, 1, 1] = torch.tensor([of_map, of_state])
            layer.bias.fill_(bias)
    f, s = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 2, 2)
    chosen, state = unit(f, s)
    raised = 2 * s.repeat_interleave(2, 2).repeat_interleave(2, 3) + 0.25

    def sigmoid(x):
        return 1 / (1 + (-x).exp())

    r = sigmoid(0.7 * f - 0.4 * raised + 0.1)
    z = sigmoid(-0.3 * f + 0.9 * raised - 0.2)
    new = (1.1 * f + 0.5 * r * raised + 0.3).tanh()
    torch.testing.assert_close(state, r * raised)
    torch.testing.assert_close(chosen, (1 - z) * raised + z * new)


def test_where_label_and_maps_join_in_attgan():
    """A decoder that adds up the channels of its input shows what it was given."""
    g = AttGANGenerator(1, 16, 2, width=4).eval()
    seen = []
    for layer in g.decoder:
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x, label = torch.randn(3, 1, 16, 16), torch.randn(3, 2)
    maps = g.encode(x)
    g.decode(maps, label)
    planes = label[:, :, None, None]
    torch.testing.assert_close(seen[0], torch.cat([maps[1], planes.expand(-1, -1, 4, 4)], 1))
    torch.testing.assert_close(seen[1][:, 8:12], maps[0])
    torch.testing.assert_close(seen[1][:, 12:], planes.expand(-1, -1, 8, 8))


def test_stgan_hands_selected_maps_to_the_decoder():
    g = STGANGenerator(1, 32, 2, width=4).eval()
    seen = []
    g.decoder[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    g.decoder[2].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x, label = torch.randn(3, 1, 32, 32), torch.randn(3, 2)
    fine, middle, coarse = g.encode(x)
    g.decode([fine, middle, coarse], label)

    def with_label(maps):
        return torch.cat([maps, label[:, :, None, None].expand(-1, -1, *maps.shape[2:])], 1)

    first, state = g.units[1](middle, with_label(coarse))
    second, _ = g.units[0](fine, with_label(state))
    torch.testing.assert_close(seen[0][:, -8 - 2 : -2], first)
    torch.testing.assert_close(seen[1][:, -4 - 2 : -2], second)
    assert not [layer for layer in g.units.modules() if isinstance(layer, nn.BatchNorm2d)]
