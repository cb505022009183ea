"""Deep image analogy against its formulas, pairs whose analogy is known, and what it refuses."""

import pytest
import torch
from torch.nn import functional as F
from torch.optim import Adam

from tests.methods.single import OneImage, TwoImages, assert_resumes_exactly, facts, photograph, train
from xdomain.batch import to_float
from xdomain.callbacks import AnalogyQuality
from xdomain.errors import UserError
from xdomain.features import build_extractor
from xdomain.methods import DeepImageAnalogy, deep_image_analogy
from xdomain.methods.deep_image_analogy import blended
from xdomain.networks.patch_match import identity_field, upsample_field, vote
from xdomain.optim import GANAdam

LAYERS = ("4", "3", "2", "1")


def fast(parameters):
    return GANAdam(parameters, lr=0.05)


def make(data=TwoImages, **options):
    return DeepImageAnalogy(**{"iterations": 2, "searches": 2, "optimizer": fast, **facts(data()), **options})


GOLDEN = {"DeepImageAnalogy": lambda: (make(iterations=1), TwoImages())}


class Swapped(TwoImages):
    def __init__(self, **options):
        super().__init__(**options)
        self.samples = {"a": self.samples["b"], "b": self.samples["a"]}


class Same(TwoImages):
    """One picture twice."""

    def __init__(self, **options):
        super().__init__(**options)
        self.samples["b"] = self.samples["a"]


class Moved(TwoImages):
    """Two parts of one picture, 8 pixels apart."""

    image_size = 40

    def __init__(self, **options):
        super().__init__(**options)
        whole = photograph(32, 48, seed=2)
        self.samples = {"a": whole[:, :, :40], "b": whole[:, :, 8:]}


def real(role, data=TwoImages):
    return to_float(data().samples[role][None])


def maps_of(data=TwoImages):
    """Features of both images, divided by the root mean square of their layer."""
    network = build_extractor("random-conv")
    a, b = (network.pyramid(real(role, data), LAYERS) for role in "ab")
    scales = [((x**2).mean() / 2 + (y**2).mean() / 2).sqrt() for x, y in zip(a, b, strict=True)]
    return [[x / s for x, s in zip(maps, scales, strict=True)] for maps in (a, b)], scales


def test_an_image_is_its_own_analogy(tmp_path):
    m = make(Same)
    losses = []
    m.log = lambda name, value, **_: losses.append(value.item()) if name == "loss" else None
    train(m, Same(), tmp_path)
    for level in range(4):
        size = m.field("a", level).shape[2:]
        assert torch.equal(m.field("a", level), identity_field(size, size))
    for ends in (("left", "right"), ("right", "left")):
        torch.testing.assert_close(m.translate(real("a"), *ends), real("a"))
    assert len(losses) == 6
    assert max(losses[::2]) < 1e-10  # features begin as known
    assert max(losses) < 1e-5


def test_a_moved_image_is_found_again(tmp_path):
    m = make(Moved, searches=10)
    train(m, Moved(), tmp_path)
    made = m.translate(real("a", Moved), "left", "right")
    assert (made - real("a", Moved))[..., 12:].abs().mean() < 0.2 * (
        real("a", Moved)[..., :32] - real("a", Moved)[..., 8:]
    ).abs().mean()
    away = m.field("a", 3)[0, 1, :, 12:] - torch.arange(12, 40)
    assert (away == -8).float().mean() > 0.9


def test_exchanged_images_have_exchanged_results(tmp_path):
    runs = {}
    for data in (TwoImages, Swapped):
        runs[data] = make(data)
        train(runs[data], data(), tmp_path / data.__name__)
    one, two = runs.values()
    for level in range(4):
        assert torch.equal(one.field("a", level), two.field("b", level))
        assert torch.equal(one.field("b", level), two.field("a", level))
    torch.testing.assert_close(one.picture_a, two.picture_b)
    torch.testing.assert_close(one.picture_b, two.picture_a)


def test_every_level_equals_the_formulas(tmp_path, monkeypatch):
    """What is searched, what features begin with, and what the loss compares, layer after layer."""
    searched, losses, started = [], [], []

    def watched(one, two, start, radius, iterations):
        searched.append((one.clone(), two.clone(), start.clone(), radius, iterations))
        return search(one, two, start, radius, iterations=iterations)

    search = deep_image_analogy.patch_match
    monkeypatch.setattr(deep_image_analogy, "patch_match", watched)
    m = make(iterations=1, alphas=(0.9, 0.6, 0.2))
    update = m.step

    def step(name, loss):
        level = int(name[-1])
        started.append([m.made(role)[level].detach().clone() for role in "ab"])
        losses.append(update(name, loss))
        return losses[-1]

    m.step = step
    train(m, TwoImages(), tmp_path)
    (a, b), scales = maps_of()
    network = build_extractor("random-conv")
    assert [(radius, iterations) for *_, radius, iterations in searched] == [(4, 2)] * 2 + [(6, 2)] * 4 + [(4, 2)] * 2
    assert torch.equal(searched[0][2], identity_field(a[0].shape[2:], b[0].shape[2:]))
    torch.testing.assert_close(searched[0][0], F.normalize(a[0], dim=1))
    torch.testing.assert_close(searched[0][1], F.normalize(b[0], dim=1))
    for level, alpha in ((1, 0.9), (2, 0.6), (3, 0.2)):
        r_a, r_b = (made[level - 1].detach() for made in (m.made("a"), m.made("b")))
        x, y = blended(a[level], r_a, alpha), blended(b[level], r_b, alpha)
        one = torch.cat([F.normalize(a[level], dim=1), F.normalize(x, dim=1)], 1)
        two = torch.cat([F.normalize(y, dim=1), F.normalize(b[level], dim=1)], 1)
        begin = upsample_field(m.field("a", level - 1), b[level - 1].shape[2:], a[level].shape[2:], b[level].shape[2:])
        back = upsample_field(m.field("b", level - 1), a[level - 1].shape[2:], b[level].shape[2:], a[level].shape[2:])
        for found, wanted in zip(
            (*searched[2 * level], *searched[2 * level + 1]), (one, two, begin, 0, 0, two, one, back, 0, 0), strict=True
        ):
            if isinstance(wanted, torch.Tensor):
                torch.testing.assert_close(found, wanted)
        x, y = vote(begin, b[level]), vote(back, a[level])
        torch.testing.assert_close(started[level - 1], [x, y])
        loss = 0
        for made, field, known in ((x, m.field("a", level - 1), b), (y, m.field("b", level - 1), a)):
            (onward,) = [network.onward(made * scales[level], LAYERS[level], LAYERS[level - 1]) / scales[level - 1]]
            loss += ((onward - vote(field, known[level - 1])) ** 2).mean()
        torch.testing.assert_close(losses[level - 1], loss)
    torch.testing.assert_close(m.picture_a, vote(m.field("a", 3), real("b")))


def test_features_are_replaced_where_the_image_responds():
    known = torch.tensor([0.0, 1.0, 3.0, 10.0]).view(1, 1, 1, 4).expand(1, 2, 1, 4)  # energies 0, 0.01, 0.09, 1
    made = torch.full((1, 2, 1, 4), 5.0)
    expected = torch.tensor([5.0, 5.0, 0.7 * 3 + 0.3 * 5, 0.7 * 10 + 0.3 * 5]).expand(1, 2, 1, 4)
    torch.testing.assert_close(blended(known, made, 0.7), expected)
    assert torch.equal(blended(known, made, 0.0), made)


def test_optimised_features_reach_what_can_be_reached():
    m = make()
    m.known({role: Pair(real(role)) for role in "ab"})
    (a, _), _ = maps_of()
    torch.manual_seed(0)
    m.made("a")[1].data.copy_(torch.randn_like(a[2]))
    optimizer = Adam([m.made("a")[1]], lr=0.05)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = m.l_made("a", 1, a[1])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.01 * losses[0]
    m.made("a")[1].data.copy_(a[2])
    assert m.l_made("a", 1, a[1]) < 1e-10


class Pair:
    """What a batch holds of an image."""

    def __init__(self, image):
        self.image = image


def test_a_run_resumes_exactly(tmp_path):
    assert_resumes_exactly(make, TwoImages, tmp_path, (0, 3, 5))


def test_nothing_is_random_and_nothing_is_rounded(tmp_path):
    pictures = []
    for seed, precision in ((0, "32-true"), (1, "bf16-mixed")):
        torch.manual_seed(seed)
        m = make()
        train(m, TwoImages(), tmp_path / precision, precision=precision)
        pictures.append(m.translate(real("b").expand(2, -1, -1, -1), "right", "left"))
    assert torch.equal(*pictures)
    assert pictures[0].shape == (2, 3, 24, 20)
    assert not pictures[0].requires_grad


def test_it_is_judged_in_both_directions_and_not_in_a_circle(tmp_path):
    m = make()
    train(m, TwoImages(), tmp_path, callbacks=[AnalogyQuality()])
    (values,) = m.trainer.test(m, TwoImages(), verbose=False)
    assert "cycle_l1" not in values
    assert values["n"] == 1
    assert (tmp_path / "samples/analogy.png").is_file()


def test_a_checkpoint_holds_the_pictures_and_not_the_network(tmp_path):
    checkpoint = train(make(), TwoImages(), tmp_path)
    m = make()
    m.load_state_dict(checkpoint["state_dict"])
    assert torch.equal(m.translate(real("a"), "left", "right"), checkpoint["state_dict"]["picture_a"])
    assert not [name for name in checkpoint["state_dict"] if "weight" in name]


def test_other_images_and_directions_are_refused(tmp_path):
    m = make()
    train(m, TwoImages(), tmp_path)
    for images, ends in (
        (real("b"), ("left", "right")),
        (-real("a"), ("left", "right")),
        (real("a"), ("right", "left")),
        (real("a"), ("left", "left")),
    ):
        with pytest.raises(UserError, match="has made two pictures, of its images left and right in the look"):
            m.translate(images, *ends)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: make(OneImage), "DeepImageAnalogy works on a pair of images"),
        (lambda: make(iterations=0), "iterations is 0: give at least 1"),
        (lambda: make(searches=0), "searches is 0: give at least 1"),
        (lambda: make(layers=["3"]), "give two or more, the coarsest first"),
        (lambda: make(alphas=[0.5]), "give 3 numbers from 0 to 1, one per finer layer"),
        (lambda: make(alphas=[0.5, 0.5, 2]), "give 3 numbers from 0 to 1"),
        (lambda: make(layers=["3", "x"], alphas=[1]), "random-conv has no layer 'x'; it has 1, 2, 3, 4"),
        (lambda: make(layers=["2", "3"], alphas=[1]), "layer '2' of random-conv does not come after layer '3'"),
    ],
)
def test_what_cannot_be_done_is_refused(call, sentence):
    with pytest.raises(UserError, match=sentence):
        call()
