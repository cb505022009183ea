"""The vocabulary that the methods of content transfer share, on methods with random weights."""

from functools import partial

import numpy as np
import pytest
import torch

from tests.methods.faces import SIZE, Faces, fitted, make, pictures, sgd
from tests.toys import weights
from xdomain.data import ImageData
from xdomain.errors import UserError
from xdomain.methods import DIDD, FaderNetwork, GuidedTransfer, MaskedTransfer, Method
from xdomain.optim import GANAdam

METHODS = [DIDD, GuidedTransfer, MaskedTransfer, FaderNetwork]
GUIDED = METHODS[:3]


def ready(method, **options):
    return make(method, **options).eval()


def didd_decode(m, c, a=None, b=None):
    """G of a common code and two slots; a slot without content is 0."""
    slots = [torch.zeros(len(c), m.E_a.dim) if s is None else s for s in (a, b)]
    return torch.tanh(m.G(torch.cat([c, *slots], 1)))


def test_didd_recombines_codes():
    m, x, guide = ready(DIDD), pictures(1), pictures(2)
    c, own_a, own_b = m.E_c(x), m.E_a(x), m.E_b(x)
    a, b = m.E_a(guide), m.E_b(guide)
    cases = [
        (("plus", "plain", guide, "transfer"), (None, b)),
        (("plain", "plus", guide, "transfer"), (a, None)),
        (("plus", "plus", guide, "transfer"), (a, None)),
        (("plus", "plus", None, "transfer"), (own_a, None)),
        (("plain", "plain", None, "transfer"), (None, own_b)),
        (("plus", "plain", None, "remove"), (None, None)),
        (("plain", "plus", guide, "remove"), (None, None)),
        (("plus", "plain", guide, "add"), (own_a, b)),
        (("plain", "plus", guide, "add"), (a, own_b)),
        (("plus", "plain", guide, "swap"), (a, None)),
        (("plain", "plain", guide, "swap"), (None, b)),
    ]
    for (source, target, given, task), slots in cases:
        result = m.translate(x, source, target, guide=given, task=task)
        message = f"{task} {source} to {target}"
        torch.testing.assert_close(result, didd_decode(m, c, *slots), msg=lambda text, m=message: f"{m}: {text}")


def test_guided_transfer_recombines_codes():
    m, x, guide = ready(GuidedTransfer), pictures(1), pictures(2)

    def decode(content):
        return torch.tanh(m.D(torch.cat([m.E_1(x), content], 1)))

    nothing = torch.zeros_like(m.E_2(x))
    cases = [
        (("plain", "plus", guide, "transfer"), m.E_2(guide)),
        (("plain", "plus", guide, "add"), m.E_2(guide)),
        (("plus", "plain", None, "transfer"), nothing),
        (("plus", "plain", None, "remove"), nothing),
        (("plain", "plain", None, "transfer"), nothing),
        (("plus", "plus", None, "transfer"), m.E_2(x)),
        (("plus", "plus", guide, "swap"), m.E_2(guide)),
        (("plus", "plain", guide, "swap"), m.E_2(guide)),
    ]
    for (source, target, given, task), content in cases:
        result = m.translate(x, source, target, guide=given, task=task)
        message = f"{task} {source} to {target}"
        torch.testing.assert_close(result, decode(content), msg=lambda text, m=message: f"{m}: {text}")


def test_masked_transfer_lays_content_over_the_image():
    m, n, guide = ready(MaskedTransfer), pictures(1), pictures(2)

    def laid_over(content, x):
        mask, image = m.D_B(torch.cat([m.E_1(x), content], 1)).split([1, 3], 1)
        return x + torch.sigmoid(mask) * (torch.tanh(image) - x)

    for task in ("transfer", "add"):
        result = m.translate(n, "plain", "plus", guide=guide, task=task)
        torch.testing.assert_close(result, laid_over(m.E_2(guide), n))
    torch.testing.assert_close(m.translate(n, "plus", "plus"), laid_over(m.E_2(n), n))
    torch.testing.assert_close(m.translate(n, "plus", "plus", guide=guide, task="add"), laid_over(m.E_2(guide), n))


@pytest.mark.parametrize("method", GUIDED)
def test_guides_decide_and_a_missing_one_is_refused(method):
    m, x = ready(method), pictures(1)
    one, other = (m.translate(x, "plain", "plus", guide=pictures(seed)) for seed in (2, 3))
    assert (one - other).abs().max() > 1e-4
    for task in ("transfer", "add"):
        with pytest.raises(UserError, match=f"guide is needed by {task} from plain to plus: give images of plus"):
            m.translate(x, "plain", "plus", task=task)
    with pytest.raises(UserError, match="guide is needed by swap: give images of plus"):
        m.translate(x, "plus", "plain", task="swap")


@pytest.mark.parametrize("method", METHODS)
def test_unknown_tasks_and_domains_are_refused(method):
    m, x = ready(method), pictures(1)
    with pytest.raises(UserError, match="task is 'delete': give one of transfer, remove, add, swap"):
        m.translate(x, "plus", "plain", task="delete")
    with pytest.raises(UserError, match=r"source is hat, which is no domain of this .*: give plus or plain"):
        m.translate(x, "hat", "plain")
    with pytest.raises(UserError, match="target is hat, which is no domain"):
        m.translate(x, "plus", "hat")
    with pytest.raises(UserError, match="fixed is hat, which is no code"):
        m.interpolate(x, x, "hat", 3)
    if not m.masked:
        with pytest.raises(NotImplementedError):
            m.mask(x)


@pytest.mark.parametrize("method", METHODS)
def test_data_that_does_not_fit_is_refused(method):
    with pytest.raises(UserError, match="needs two domains, but the data has 1"):
        make(method, domains=("plus",), channels=(3,))
    with pytest.raises(UserError, match="have 3 and 1 channels: set the data's channels"):
        make(method, channels=(3, 1))
    with pytest.raises(ValueError, match="image_size is 49, but content transfer needs a multiple of 8"):
        make(method, image_size=49)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("training", [True, False])
def test_translation_is_in_evaluation_mode_and_changes_nothing(method, training):
    m, x, guide = make(method).train(training), pictures(1), pictures(2)
    before = weights(m)
    result = m.translate(x, "plain", "plus", guide=guide)
    others = m.codes(x), m.interpolate(x, guide, "common", 2)
    assert result.shape == x.shape
    assert all(module.training == training for module in m.modules())
    assert all(torch.equal(value, before[name]) for name, value in m.state_dict().items())
    assert others[0]["common"].shape[0] == 3
    one_by_one = [m.translate(i[None], "plain", "plus", guide=j[None]) for i, j in zip(x, guide, strict=True)]
    torch.testing.assert_close(result, torch.cat(one_by_one))


def test_codes_are_those_of_the_encoders():
    x = pictures(1)
    m = ready(DIDD)
    expected = {"common": m.E_c(x), "plus": m.E_a(x), "plain": m.E_b(x)}
    torch.testing.assert_close(m.codes(x), expected)
    for method in (GuidedTransfer, MaskedTransfer):
        m = ready(method)
        torch.testing.assert_close(m.codes(x), {"common": m.E_1(x), "plus": m.E_2(x)})
    assert [ready(m).contents for m in METHODS] == [
        ("plus", "plain"),
        ("plus",),
        ("plus",),
        ("plus", "plain"),
    ]
    assert [m.guided for m in METHODS] == [True, True, True, False]
    assert [m.masked for m in METHODS] == [False, False, True, False]


@pytest.mark.parametrize("fixed", ["common", "plus", "plain"])
def test_didd_interpolates_two_codes_on_a_grid(fixed):
    m, x, y = ready(DIDD), pictures(1), pictures(2)
    nets = {"common": m.E_c, "plus": m.E_a, "plain": m.E_b}
    down, across = [name for name in nets if name != fixed]
    grid = m.interpolate(x, y, fixed, 4)
    assert grid.shape == (3, 4, 4, 3, SIZE, SIZE)
    for row in range(4):
        for column in range(4):
            mixed = {fixed: nets[fixed](x)}
            for name, j in ((down, row), (across, column)):
                mixed[name] = (1 - j / 3) * nets[name](x) + j / 3 * nets[name](y)
            expected = didd_decode(m, mixed["common"], mixed["plus"], mixed["plain"])
            torch.testing.assert_close(grid[:, row, column], expected, rtol=1e-4, atol=1e-5)


def test_one_sided_methods_interpolate_in_one_row():
    x, y = pictures(1), pictures(2)
    m = ready(GuidedTransfer)
    grid = m.interpolate(x, y, "plus", 3)
    assert grid.shape == (3, 1, 3, 3, SIZE, SIZE)
    for j in range(3):
        mixed = (1 - j / 2) * m.E_1(x) + j / 2 * m.E_1(y)
        torch.testing.assert_close(
            grid[:, 0, j], torch.tanh(m.D(torch.cat([mixed, m.E_2(x)], 1))), rtol=1e-4, atol=1e-5
        )
    m = ready(MaskedTransfer)
    grid = m.interpolate(x, y, "common", 3)
    assert grid.shape == (3, 1, 3, 3, SIZE, SIZE)
    torch.testing.assert_close(grid[:, 0, 0], m.translate(x, "plus", "plus", guide=x, task="add"))
    torch.testing.assert_close(grid[:, 0, 2], m.translate(x, "plus", "plus", guide=y, task="add"))


@pytest.mark.parametrize("method", METHODS)
def test_loading_a_checkpoint_reaches_the_base(method, monkeypatch):
    """Which takes back gradients that wait for the rest of their batches."""
    seen, m = [], make(method)
    monkeypatch.setattr(Method, "on_load_checkpoint", lambda _, checkpoint: seen.append(checkpoint))
    checkpoint = {"state_dict": m.state_dict()}
    m.on_load_checkpoint(checkpoint)
    assert seen == [checkpoint]


@pytest.mark.parametrize("method", METHODS)
def test_checkpoint_needs_nothing_else(method, tmp_path):
    m = make(method)
    fitted(m, steps=2, run_dir=str(tmp_path / "run"))
    loaded = method.load_from_checkpoint(
        tmp_path / "run" / "checkpoints" / "last.ckpt", optimizer=sgd, weights_only=True
    )
    assert loaded.contents == m.contents
    x, guide = pictures(1), pictures(2)
    m.eval(), loaded.eval()
    torch.testing.assert_close(
        loaded.translate(x, "plain", "plus", guide=guide), m.translate(x, "plain", "plus", guide=guide)
    )


class Squares(Faces):
    """Grey ramps; those of "plus" have a square of a random colour in a corner."""

    def data(self, role, split):
        rng = np.random.default_rng([ord(role), *split.encode()])
        images, colours = squares(rng, 256 if split == "train" else 64, role == "a")
        return ImageData(images, colours)


def squares(rng, count, present):
    """Images ``uint8`` and whether the square is red (0) or blue (1)."""
    ramp = np.linspace(-30, 30, SIZE)[None, :] * rng.uniform(-1, 1, (count, 1))
    images = np.broadcast_to((128 + ramp)[:, None, None, :], (count, 3, SIZE, SIZE)).copy()
    colours = rng.integers(0, 2, count)
    if present:
        for image, colour in zip(images, colours, strict=True):
            image[:, 8:14, 8:14] = np.array([[230, 20, 20], [20, 20, 230]])[colour][:, None, None]
    return images.astype(np.uint8), colours


def redness(images):
    """Red minus blue where the square is, in [-2, 2]."""
    square = images[:, :, 9:13, 9:13].mean((2, 3))
    return square[:, 0] - square[:, 2]


def test_the_square_follows_the_colour_of_the_guide():
    m = make(GuidedTransfer, sep=2, width=8, confusion=0.05, optimizer=partial(GANAdam, lr=2e-3))
    fitted(m, steps=150, data=Squares(batch_size=16), enable_checkpointing=False, logger=False)
    rng = np.random.default_rng(5)
    plain, _ = squares(rng, 64, False)
    guide, colour = squares(rng, 64, True)
    plain, guide = (torch.from_numpy(images).float() / 127.5 - 1 for images in (plain, guide))
    with torch.no_grad():
        shown = redness(m.translate(plain, "plain", "plus", guide=guide)).numpy()
        removed = redness(m.translate(guide, "plus", "plain", task="remove")).abs().mean().item()
    assert shown[colour == 0].mean() > 0.7
    assert shown[colour == 1].mean() < -0.7
    assert removed < 0.7
