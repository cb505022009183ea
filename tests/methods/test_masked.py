"""Mask based content transfer against the losses (1) to (8) of the paper, with BatchNorm over one domain at a time."""

import copy

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation
from torch.nn import functional as F

from tests.methods.faces import Faces, assert_gradients, first_batch, fitted, make, millions, one_step, owners, pictures
from xdomain.errors import UserError
from xdomain.methods import MaskedTransfer

WEIGHTS = {
    "gamma": 1.7,
    "delta": 1.1,
    "alpha1": 0.6,
    "alpha2": 0.8,
    "beta1": 0.5,
    "beta2": 0.4,
    "confusion": 0.9,
}

RECIPE = {
    **{"joint": True, "one_decoder": True, "content_start": 2, "alpha_ramp": 3, "mask_slope": 4, "common": 5},
    **{"confusion_target": "uniform", "d_steps": 2, "discriminant": 0.15},
}
GOLDEN = {
    "MaskedTransfer": lambda: (make(MaskedTransfer, **WEIGHTS), Faces()),
    "MaskedTransfer as in its recipes": lambda: (make(MaskedTransfer, **RECIPE), Faces()),
}


def d_b(m, common, content, background):
    """Laid over a background by its mask."""
    mask, *image = m.D_B(torch.cat([common, content], 1)).split(1, 1)
    mask, image = torch.sigmoid(m.mask_slope * mask), torch.tanh(torch.cat(image, 1))
    return mask * image + (1 - mask) * background


def d_a(m, common, content):
    """A whole image; one decoder for all draws it beside a mask that nobody wants."""
    codes = torch.cat([common, content], 1)
    return torch.tanh(m.D_B(codes)[:, 1:] if m.one_decoder else m.D_A(codes))


def losses(m, p, n):
    c_p, c_n, s = m.E_1(p), m.E_1(n), m.E_2(p)
    empty = torch.zeros_like(s)
    shaved, plain = d_a(m, c_p, empty), d_a(m, c_n, empty)
    t = d_b(m, c_n, s, n)
    return {
        "gamma": (d_b(m, c_p, s, shaved) - p).abs().mean(),
        "delta": (plain - n).abs().mean(),
        "alpha1": (d_b(m, c_p, s, p) - p).abs().mean(),
        "alpha2": (d_b(m, c_n, empty, n) - n).abs().mean(),
        "beta1": (m.E_1(t) - c_n).square().mean(),
        "beta2": (m.E_2(t) - s).square().mean(),
        "confusion": F.softplus(m.d(c_p)).mean() + F.softplus(m.d(c_n)).mean(),
    }


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"beta1": 0.0},
        {"beta1": 0.0, "beta2": 0.0},
        {"norm": "instance"},
        {"one_decoder": True},
        {"mask_slope": 3.0},
    ],
    ids=str,
)
def test_one_step_equals_the_formulas(settings):
    weights = {**WEIGHTS, **{k: v for k, v in settings.items() if k in WEIGHTS}}
    method = make(MaskedTransfer, **{**weights, **settings})
    m = copy.deepcopy(method)
    (g, d), logged = one_step(method)
    p, n = first_batch()

    assert (g.name, d.name) == ("g", "d")
    total = sum(weights[name] * loss for name, loss in losses(m, p, n).items())
    assert owners(g.gradients) == {"E_1", "E_2", "D_B"} | (set() if m.one_decoder else {"D_A"})
    assert_gradients(g.gradients, total, m)
    assert logged["l_g"] == pytest.approx(total.item(), rel=1e-4)

    old = [m.E_1(p).detach(), m.E_1(n).detach()]
    m.load_state_dict(d.state)
    new = [m.E_1(p).detach(), m.E_1(n).detach()]
    assert max((x - y).abs().max() for x, y in zip(old, new, strict=True)) > 1e-3
    c_p, c_n = new
    assert owners(d.gradients) == {"d"}
    assert_gradients(d.gradients, F.softplus(-m.d(c_p)).mean() + F.softplus(m.d(c_n)).mean(), m)


@pytest.mark.parametrize(("beta1", "beta2", "passes"), [(1, 1, (5, 2)), (0, 1, (4, 2)), (1, 0, (5, 1)), (0, 0, (4, 1))])
def test_cycles_without_weight_are_not_computed(beta1, beta2, passes):
    method = make(MaskedTransfer, beta1=beta1, beta2=beta2)
    calls = {"E_1": 0, "E_2": 0}
    for name in calls:
        getattr(method, name).register_forward_hook(lambda *_, n=name: calls.__setitem__(n, calls[n] + 1))
    fitted(method)
    assert (calls["E_1"], calls["E_2"]) == passes  # two of E_1 are for d


def test_joint_domains_share_every_batch():
    weights = {**WEIGHTS, "beta1": 0.0}
    method = make(MaskedTransfer, joint=True, **weights)
    m = copy.deepcopy(method)
    (g, d), _ = one_step(method)
    p, n = first_batch()

    c_p, c_n = m.E_1(torch.cat([p, n])).chunk(2)
    s = m.E_2(p)
    empty = torch.zeros_like(s)
    shaved, plain = torch.tanh(m.D_A(torch.cat([torch.cat([c_p, c_n]), torch.cat([empty, empty])], 1))).chunk(2)
    drawn = m.D_B(torch.cat([torch.cat([c_p, c_n, c_n]), torch.cat([s, s, empty])], 1))
    masks, images = torch.sigmoid(drawn[:, :1]).chunk(3), torch.tanh(drawn[:, 1:]).chunk(3)

    def over(i, background):
        return masks[i] * images[i] + (1 - masks[i]) * background

    expected = {
        "gamma": (over(0, shaved) - p).abs().mean(),
        "delta": (plain - n).abs().mean(),
        "alpha1": (over(0, p) - p).abs().mean(),
        "alpha2": (over(2, n) - n).abs().mean(),
        "beta2": (m.E_2(over(1, n)) - s).square().mean(),
        "confusion": F.softplus(m.d(c_p)).mean() + F.softplus(m.d(c_n)).mean(),
    }
    assert_gradients(g.gradients, sum(weights[name] * loss for name, loss in expected.items()), m)
    m.load_state_dict(d.state)
    c_p, c_n = (code.detach() for code in m.E_1(torch.cat([p, n])).chunk(2))
    assert_gradients(d.gradients, F.softplus(-m.d(c_p)).mean() + F.softplus(m.d(c_n)).mean(), m)


def test_before_content_starts_there_is_none():
    method = make(MaskedTransfer, content_start=1, one_decoder=True, **WEIGHTS)
    m = copy.deepcopy(method)
    (g, _), _ = one_step(method)
    p, n = first_batch()
    c_p, c_n = m.E_1(p), m.E_1(n)
    empty = torch.zeros(len(p), m.E_2.dim)
    assert owners(g.gradients) == {"E_1", "D_B"}
    loss = 1.7 * (d_a(m, c_p, empty) - p).abs().mean() + 1.1 * (d_a(m, c_n, empty) - n).abs().mean()
    loss = loss + 0.9 * (F.softplus(m.d(c_p)).mean() + F.softplus(m.d(c_n)).mean())
    assert_gradients(g.gradients, loss, m)
    assert g.gradients[f"D_B.blocks.{len(m.D_B.blocks) - 1}.bias"][0] == 0  # masks are free


def test_masks_are_free_before_alpha_grows():
    method = make(MaskedTransfer, alpha_ramp=5, **WEIGHTS)
    m = copy.deepcopy(method)
    (g, _), _ = one_step(method)  # the first batch: alpha1 and alpha2 weigh nothing
    weights = {**WEIGHTS, "alpha1": 0, "alpha2": 0}
    total = sum(weights[name] * loss for name, loss in losses(m, *first_batch()).items())
    assert_gradients(g.gradients, total, m)


def test_alpha_grows_from_where_content_starts():
    method = make(MaskedTransfer, content_start=2, alpha_ramp=4, **WEIGHTS)
    seen = []
    method.on_train_batch_start = lambda *_: seen.append(method.current_weights()["l_plus_kept"])
    fitted(method, steps=8)
    assert seen == pytest.approx([0.6 * x for x in (0, 0, 0, 0.25, 0.5, 0.75, 1, 1)])


def test_sizes_of_the_paper():
    with torch.device("meta"):
        method = MaskedTransfer(domains=Faces.domains, channels=(3, 3), image_size=128)
    sizes = {name: millions(getattr(method, name)) for name in ("E_1", "E_2", "D_A", "D_B", "d")}
    assert sizes == {"E_1": "6.48", "E_2": "0.74", "D_A": "6.98", "D_B": "6.98", "d": "1.00"}
    assert [net.blocks[-1].out_channels for net in (method.D_A, method.D_B)] == [3, 4]
    kinds = {type(m).__name__ for m in method.modules()}
    assert "BatchNorm2d" in kinds
    assert not kinds & {"InstanceNorm2d", "ReLU"}
    assert list(method.weights.values()) == [7, 5, 0.7, 0.7, 0, 0.001, 0.005, 0]
    assert (method.threshold, method.clip, method.contents) == (0.1, 5.0, ("plus",))


def varied(**options):
    """A method whose masks lie on both sides of a threshold within every image."""
    method = make(MaskedTransfer, **options)
    with torch.no_grad():
        method.D_B.blocks[-1].weight.mul_(200)
    return method.eval()


def test_slope_multiplies_the_logits_of_masks_in_training_too():
    p, n = pictures(1), pictures(2)
    gentle, steep = (
        make(MaskedTransfer).eval(),
        make(MaskedTransfer, mask_slope=3.0).eval(),
    )
    steep.load_state_dict(gentle.state_dict())
    torch.testing.assert_close(torch.logit(steep.mask(p)), 3 * torch.logit(gentle.mask(p)))
    drawn = gentle.D_B(torch.cat([gentle.E_1(n), gentle.E_2(p)], 1))
    mask = 1 / (1 + torch.exp(-3 * drawn[:, :1]))
    expected = mask * drawn[:, 1:].tanh() + (1 - mask) * n
    torch.testing.assert_close(steep.translate(n, "plain", "plus", guide=p), expected)


@pytest.mark.parametrize("slope", [0.0, -1.0])
def test_slope_is_positive(slope):
    with pytest.raises(UserError, match=f"mask_slope is {slope}: give a number above 0"):
        make(MaskedTransfer, mask_slope=slope)


def test_masks_are_in_their_range_and_of_the_image_itself():
    method, p = varied(), pictures(1)
    mask = method.mask(p)
    assert mask.shape == (3, 1, 16, 16)
    assert mask.min() >= 0
    assert mask.max() <= 1
    assert mask.amax((1, 2, 3)).min() > 0.5 > mask.amin((1, 2, 3)).max()
    raw = method.D_B(torch.cat([method.E_1(p), method.E_2(p)], 1))
    torch.testing.assert_close(mask, 1 / (1 + torch.exp(-raw[:, :1])))


@pytest.mark.parametrize(("threshold", "one_decoder"), [(0.1, False), (0.5, False), (0.5, True)])
def test_removal_draws_the_candidate_where_the_mask_is_above_the_threshold(threshold, one_decoder):
    method, p = varied(threshold=threshold, one_decoder=one_decoder), pictures(2)
    inside = (method.mask(p) > threshold).expand_as(p)
    candidate = d_a(method, method.E_1(p), torch.zeros_like(method.E_2(p)))
    for task in ("remove", "transfer"):
        result = method.translate(p, "plus", "plain", task=task)
        assert inside.any()
        assert not inside.all()
        assert torch.equal(result[~inside], p[~inside])  # to the bit
        torch.testing.assert_close(result[inside], candidate[inside])
        assert (result[inside] != p[inside]).all()


@pytest.mark.parametrize("dilation", [1, 3])
def test_removal_grows_by_dilation(dilation):
    method, p = varied(threshold=0.9, dilation=dilation), pictures(2)
    square = np.ones((2 * dilation + 1, 2 * dilation + 1), bool)
    cores = (method.mask(p) > 0.9).numpy()[:, 0]
    grown = np.stack([binary_dilation(core, square) for core in cores])[:, None]
    assert cores.sum() < grown.sum() < grown.size
    replaced = (method.translate(p, "plus", "plain", task="remove") != p).any(1, keepdim=True).numpy()
    assert (replaced == grown).all()


def test_dilation_is_a_number_of_pixels():
    with pytest.raises(UserError, match="dilation is -1"):
        make(MaskedTransfer, dilation=-1)


def test_additions_stretch_masks_and_removals_do_not():
    """Against numpy's interpolation; outside of the range nothing or everything is drawn anew."""
    plain, stretched = varied(threshold=0.05), varied(threshold=0.05, mask_range=(0.2, 0.6))
    stretched.load_state_dict(plain.state_dict())
    p, n = pictures(2), pictures(3)
    mask = plain.mask(n, guide=p)
    expected = torch.from_numpy(np.interp(mask.detach(), [0.2, 0.6], [0, 1])).float()
    assert 0 < (expected == 0).float().mean() < 1
    torch.testing.assert_close(stretched.mask(n, guide=p), expected)
    drawn = torch.tanh(plain.D_B(torch.cat([plain.E_1(n), plain.E_2(p)], 1))[:, 1:])
    result = stretched.translate(n, "plain", "plus", guide=p)
    torch.testing.assert_close(result, expected * drawn + (1 - expected) * n)
    removals = [method.translate(p, "plus", "plain", task="remove") for method in (plain, stretched)]
    assert torch.equal(*removals)
    own = plain.mask(p)
    assert ((own > 0.05) & (own < 0.2)).any()  # where a removal by stretched masks would differ


@pytest.mark.parametrize("mask_range", [(0.5, 0.5), (0.6, 0.2), (-0.1, 0.5), (0.5, 1.5)])
def test_mask_range_lies_in_masks(mask_range):
    with pytest.raises(UserError, match=r"mask_range is \[.*give two rising numbers from 0 to 1"):
        make(MaskedTransfer, mask_range=mask_range)


def test_swap_lays_the_guide_over_the_removal():
    method, p, guide = varied(), pictures(3), pictures(4)
    removed = method.translate(p, "plus", "plain", task="remove")
    expected = d_b(method, method.E_1(removed), method.E_2(guide), removed)
    torch.testing.assert_close(method.translate(p, "plus", "plus", guide=guide, task="swap"), expected)


def test_plain_images_have_nothing_to_lose():
    method, n = varied(), pictures(5)
    for task in ("remove", "transfer", "add"):
        assert torch.equal(method.translate(n, "plain", "plain", task=task), n)
