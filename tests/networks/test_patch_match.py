"""PatchMatch against brute force and loops, and fields whose results are known."""

import pytest
import torch
from torch.nn import functional as F

from xdomain.networks.patch_match import identity_field, patch_match, upsample_field, vote


def noise(*shape, seed=0):
    """Unit vectors at all positions."""
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def smooth(*shape, seed=0):
    """Unit vectors that vary slowly."""
    return F.normalize(F.avg_pool2d(noise(*shape, seed=seed), 5, stride=1, padding=2), dim=1)


def similarities(a, b):
    """Mean inner products of all 3x3 patches of a [C, H, W] with all of b, [H W, h w], position by position."""
    patches = []
    for maps in (a, b):
        height, width = maps.shape[1:]
        rows = []
        for y in range(height):
            for x in range(width):
                around = [
                    maps[:, min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)]
                    for dy in (-1, 0, 1)
                    for dx in (-1, 0, 1)
                ]
                rows.append(torch.cat(around))
        patches.append(torch.stack(rows))
    return patches[0] @ patches[1].T / 9


def reached(a, b, field):
    """Similarities of a field's matches."""
    index = field[0] * b.shape[2] + field[1]
    return similarities(a, b).gather(1, index.reshape(-1, 1))[:, 0]


@pytest.mark.parametrize("maps", [noise, smooth])
def test_nearly_as_good_as_brute_force(maps):
    a, b = maps(1, 6, 13, 16), maps(1, 6, 15, 12, seed=1)
    start = identity_field((13, 16), (15, 12))
    exact = similarities(a[0], b[0]).amax(1)
    found = [reached(a[0], b[0], patch_match(a, b, start, 16, iterations=n)[0]) for n in (0, 1, 10)]
    assert (found[2] <= exact + 1e-6).all()
    factor, share = (1.05, 0.75) if maps is smooth else (1.1, 0.4)
    assert 1 - found[2].mean() <= factor * (1 - exact.mean())
    assert ((found[2] - exact).abs() < 1e-4).float().mean() > share
    assert (found[1] >= found[0]).all()
    assert (found[2] >= found[1]).all()


def test_a_map_matches_itself():
    a = noise(1, 5, 11, 14)
    itself = identity_field((11, 14), (11, 14))
    elsewhere = torch.randint(0, 11, itself.shape, generator=torch.Generator().manual_seed(0))
    for start in (itself, elsewhere):
        assert torch.equal(patch_match(a, a, start, 14), itself)


def test_flat_maps_keep_their_order():
    a = torch.ones(1, 3, 9, 9)
    itself = identity_field((9, 9), (9, 9))
    assert torch.equal(patch_match(a, a + 1e-6, itself, 9), itself)


def test_a_translated_map_is_found():
    a = noise(1, 5, 20, 24)
    b = a.roll((4, -3), (2, 3))
    found = patch_match(a, b, identity_field((20, 24), (20, 24)), 24)
    away = (found - identity_field((20, 24), (20, 24)))[0, :, 1:15, 4:23]
    assert (away[0] == 4).all()
    assert (away[1] == -3).all()


def test_pairs_of_a_batch_do_not_mix():
    a, b = noise(2, 4, 8, 9), noise(2, 4, 7, 10, seed=1)
    start = identity_field((8, 9), (7, 10), 2)
    found = patch_match(a, b, start, 10)
    for i in range(2):
        exact = similarities(a[i], b[i]).amax(1).mean().item()
        assert 1 - reached(a[i], b[i], found[i]).mean() <= 1.2 * (1 - exact)
    assert torch.equal(patch_match(a, b, start, 10), found)


def test_positions_at_the_same_place():
    assert identity_field((4,) * 2, (4,) * 2)[0, :, 1, 3].tolist() == [1, 3]
    assert identity_field((2, 3), (4, 1))[0, 0].tolist() == [[1] * 3, [3] * 3]
    assert (identity_field((2, 3), (4, 1))[0, 1] == 0).all()


@pytest.mark.parametrize(("coarse", "fine"), [((15, 4), (30, 8)), ((15, 7), (30, 13)), ((30, 31), (61, 61))], ids=str)
def test_a_finer_identity_is_the_identity(coarse, fine):
    found = upsample_field(identity_field(coarse, coarse), coarse, fine, fine)
    assert torch.equal(found, identity_field(fine, fine))


def test_a_finer_field_has_larger_offsets():
    coarse = identity_field((4, 6), (8, 9)) * 0 + torch.tensor([3, 2]).view(1, 2, 1, 1)
    found = upsample_field(coarse, (8, 9), (8, 12), (16, 18))
    assert found.unique().tolist() == [4, 5, 6, 7]  # 2 * 3 or 2 * 2, and the position in the cell
    assert found[0, :, 5, 4].tolist() == [7, 4]
    assert upsample_field(coarse + 5, (8, 9), (8, 12), (16, 18)).amax((0, 2, 3)).tolist() == [15, 15]


def counted(field, maps, side):
    """Votes, vote by vote."""
    (_, height, width), reach = field.shape, side // 2
    total, count = torch.zeros(maps.shape[0], height, width), torch.zeros(height, width)
    for y in range(height):
        for x in range(width):
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    row, column = (int(v) for v in field[:, y, x] + torch.tensor([dy, dx]))
                    inside = 0 <= row < maps.shape[1] and 0 <= column < maps.shape[2]
                    if inside and 0 <= y + dy < height and 0 <= x + dx < width:
                        total[:, y + dy, x + dx] += maps[:, row, column]
                        count[y + dy, x + dx] += 1
    return total / count


@pytest.mark.parametrize("side", [1, 3, 5])
def test_votes_are_counted(side):
    maps = torch.randn(2, 3, 6, 4)
    field = torch.stack([torch.randint(0, 6, (2, 5, 7)), torch.randint(0, 4, (2, 5, 7))], 1)
    wanted = torch.stack([counted(f, m, side) for f, m in zip(field, maps, strict=True)])
    torch.testing.assert_close(vote(field, maps, side), wanted)


def test_votes_of_known_fields():
    maps = torch.randn(1, 3, 8, 9)
    itself = identity_field((8, 9), (8, 9))
    torch.testing.assert_close(vote(itself, maps), maps)
    moved = vote(itself[..., :6, :7] + torch.tensor([2, 2]).view(1, 2, 1, 1), maps)
    torch.testing.assert_close(moved, maps[..., 2:, 2:])
    anywhere = torch.randint(0, 8, (1, 2, 5, 6))
    torch.testing.assert_close(vote(anywhere, torch.full((1, 2, 8, 8), 0.3)), torch.full((1, 2, 5, 6), 0.3))
