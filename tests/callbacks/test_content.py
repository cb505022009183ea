"""Content transfer on images whose content are blocks of one colour, by methods that do it perfectly, or not at all."""

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.trainer.states import TrainerFn
from scipy.ndimage import gaussian_filter
from torch import nn

from tests.callbacks.judges import Held
from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.batch import to_float
from xdomain.callbacks import ContentMasks, ContentTransfer, TransferPictures
from xdomain.callbacks.content_checks import rule_of
from xdomain.callbacks.reading import draw_pairs, spread
from xdomain.data import ImageData
from xdomain.data.attributes import AttributeDomains
from xdomain.errors import UserError
from xdomain.methods import ContentMethod, MaskedTransfer, StyleMethod

PLACES = {"smile": (slice(2, 5), slice(2, 7)), "glasses": (slice(9, 14), slice(9, 14))}
NAMES = {"smile": "Smiling", "glasses": "Eyeglasses"}


def draw(images, domain, value):
    rows, columns = PLACES[domain]
    images[..., rows, columns] = value
    return images


class Blocks(AttributeDomains):
    """A dark ground whose colour is the person; a bright block at one place is a smile, at the other glasses."""

    attribute_names = ("Eyeglasses", "Smiling")
    image_size = 16
    masked_domains = ("glasses",)

    def __init__(self, domains="smile_glasses", count=120, **options):
        super().__init__(domains, eval_batch_size=7, **options)
        self.count = count

    def load(self, split):
        rng = np.random.default_rng(len(split))
        table = rng.integers(0, 2, (self.count, 2), dtype=np.uint8)
        images = np.repeat(rng.integers(30, 120, (self.count, 3, 1, 1), dtype=np.uint8), 16, 2).repeat(16, 3)
        values = rng.integers(180, 250, (self.count, 2), dtype=np.uint8)
        for i in range(self.count):
            for column, domain in enumerate(("glasses", "smile")):
                if table[i, column]:
                    draw(images[i], domain, values[i, column])
        return ImageData(images, None, table)

    def counterfactual(self, source_role, target_role, positions, donors, split, task="transfer"):
        source, target = (self.domains[self.roles.index(role)] for role in (source_role, target_role))
        images = torch.from_numpy(self.data(source_role, split).images[positions])
        given = torch.from_numpy(self.data(target_role, split).images[donors])
        mask = torch.zeros(len(images), 1, 16, 16, dtype=torch.uint8)
        changes = {"remove": (source, images[..., :1, :1]), "add": (target, given)}
        for domain, by in [changes[task]] if task in changes else changes.values():
            if domain in PLACES:
                place = PLACES[domain]
                draw(images, domain, by if by.shape[-1] == 1 else by[..., place[0], place[1]])
                draw(mask, domain, 255)
        return images, mask

    def content_mask(self, role, positions, split):
        return draw(torch.zeros(len(positions), 1, 16, 16, dtype=torch.uint8), "glasses", 255)


class Surgeon(ContentMethod):
    """Knows the ground and the blocks; ``lazy`` changes nothing, ``tint`` is added to removals everywhere."""

    def __init__(self, domains=("smile", "glasses"), lazy=False, leaky=False, tint=0.0, masked=False, guided=True):
        super().__init__(domains=domains, channels=(3, 3), image_size=16)
        self.contents = tuple(domain for domain in domains if domain in PLACES)
        self.lazy, self.leaky, self.tint, self.masked, self.guided = lazy, leaky, tint, masked, guided

    def common(self, images):
        return images.flatten(1) if self.leaky else images[:, :, 0, 0]

    def separate(self, images, domain):
        rows, columns = PLACES[domain]
        return images[:, :1, rows, columns].mean((2, 3))

    def decode(self, codes, images):
        if self.lazy:
            return images
        result = images[:, :, :1, :1].repeat(1, 1, 16, 16) + (self.tint if len(codes) == 1 else 0)
        for domain in PLACES:
            if domain in codes:
                draw(result, domain, codes[domain][:, :, None, None])
        return result

    def mask(self, images, guide=None):
        return ((images if guide is None else guide)[:, :1] > 0.2).float() * 0.9


class Painter(StyleMethod):
    """Content is the ground, a style is the block of its domain."""

    style_length = 1

    def __init__(self):
        super().__init__(domains=("smile", "glasses"), channels=(3, 3), image_size=16)
        self.G = nn.Identity()

    def content(self, images, domain):
        return images[:, :, :1, :1]

    def style(self, images, domain):
        rows, columns = PLACES[self.domains[domain]]
        return images[:, :1, rows, columns].mean((2, 3))

    def decode(self, content, style, domain):
        return draw(content.repeat(1, 1, 16, 16), self.domains[domain], style[:, :, None, None])


class Judge(nn.Module):
    """Reads the blocks."""

    def __init__(self, *domains, sign=1):
        super().__init__()
        self.domains, self.classes, self.channels, self.sign = domains, max(len(domains) - 1, 1), 3, sign

    def forward(self, images):
        seen = [images[:, 0, PLACES[d][0], PLACES[d][1]].mean((1, 2)) - images[:, 0, 0, 0] for d in self.domains]
        return torch.stack([value - 0.05 for value in seen], 1)

    def features(self, images):
        return images[:, :, 0, 0]


class DomainJudge(Judge):
    """One logit: a smile, and no glasses."""

    def forward(self, images):
        smile, glasses = super().forward(images).T
        return (smile - glasses)[:, None]


TARGETS = {
    "which": ("smile",),
    "what": ("Eyeglasses", "Smiling"),
    "both": ("smile", "glasses"),
    "hat": ("hat",),
    "worn": ("glasses",),
}


@pytest.fixture(autouse=True)
def _targets(monkeypatch):
    for module in ("content", "content_masks"):
        monkeypatch.setattr(f"xdomain.callbacks.{module}.helper_targets", TARGETS.__getitem__)
    monkeypatch.setattr("xdomain.callbacks.content_checks.helper_data", lambda source: None)


def attach(method, data, testing=True):
    run = trainer(max_steps=1)
    method.trainer = run
    run.datamodule = data
    run.testing = testing
    return run


def evaluated(callback, method, data, testing=True):
    """What a callback reports, after its check."""
    run = attach(method, data, testing)
    callback.setup(run, method, "test" if testing else "validate")
    callback.begin(run, method)
    return callback.report(run, testing)


def transferred(method, data=None, testing=True, judge="which", **options):
    callback = ContentTransfer(judge, "what", "who", **{"pairs": 60, "val_pairs": 9, **options})
    callback.judges = {
        "domain_classifier": Held(DomainJudge(*("smile", "glasses")[:: 1 if judge == "which" else -1])),
        "attributes": Held(Judge("glasses", "smile")),
        "embedder": Held(Judge()),
    }
    return evaluated(callback, method.eval(), data or Blocks(), testing)


def test_a_perfect_transfer():
    values = transferred(Surgeon())
    for name in ("smile_to_glasses", "glasses_to_smile"):
        expected = {"hit_rate": 1, "hit_rate_untranslated": 0, "removed": 1, "added": 1, "n": 60}
        assert {key: values[f"{key}/{name}"] for key in expected} == expected
        assert values[f"hit_rate_high/{name}"] == 1
        assert values[f"hit_rate_low/{name}"] == pytest.approx(60 / (60 + 1.96**2), abs=1e-4)
        for key in ("l1", "l1_inside", "l1_outside"):
            assert values[f"{key}/{name}"] < 1e-6  # rounding
        assert values[f"l1_outside_untranslated/{name}"] == 0
        assert values[f"identity/{name}"] == pytest.approx(1)
        assert values[f"identity_truth/{name}"] == pytest.approx(1)
        assert values[f"n_fake/{name}@random-conv"] == 60
        assert values[f"fid/{name}@random-conv"] >= 0
        assert values[f"kid_std/{name}@random-conv"] >= 0
        assert values[f"stripped/{name}"] == values[f"united/{name}"] == 1
        assert max(values[f"l1_stripped/{name}"], values[f"l1_united/{name}"]) < 1e-6
    for key in ("domain_accuracy@which", "judge_accuracy/Smiling", "judge_accuracy/Eyeglasses"):
        assert values[key] == 1
    data = Blocks()
    assert values["n_real/smile_to_glasses@random-conv"] == len(data.data("b", "test"))


def test_a_perfect_transfer_of_styles():
    values = transferred(Painter())
    for name in ("smile_to_glasses", "glasses_to_smile"):
        found = {key: values[f"{key}/{name}"] for key in ("hit_rate", "removed", "added", "n")}
        assert found == {"hit_rate": 1, "removed": 1, "added": 1, "n": 60}
        assert values[f"l1/{name}"] < 1e-6
        assert values[f"colour_of_source_untranslated/{name}"] == pytest.approx(1)
        assert values[f"colour_of_guide_random/{name}"] == pytest.approx(1)
        assert values[f"colour_of_source/{name}"] > 0.9 > abs(values[f"colour_of_guide/{name}"])
    assert not any(key.split("/")[0] in ("stripped", "united", "probe") for key in values)


def test_nothing_done_against_numbers_by_hand():
    values, data = transferred(Surgeon(lazy=True)), Blocks()
    images, guides = (data.data(role, "test").images.astype(float) / 127.5 for role in "ab")
    pairs = draw_pairs(len(images), len(guides), 60, 0)
    ground, block = images[pairs[:, 0], :, 0, 0], images[pairs[:, 0], :, 3, 3]
    lost = np.abs(block - ground).mean() * 15
    given = np.abs(guides[pairs[:, 1], :, 10, 10] - ground).mean() * 25
    name = "smile_to_glasses"
    assert values[f"l1/{name}"] == pytest.approx((lost + given) / 256, rel=1e-4)
    assert values[f"l1_inside/{name}"] == pytest.approx((lost + given) / 40, rel=1e-4)
    assert values[f"l1_outside/{name}"] == 0
    for key in ("l1", "l1_inside", "l1_outside"):
        assert values[f"{key}/{name}"] == values[f"{key}_untranslated/{name}"]
    assert values[f"l1_stripped/{name}"] == pytest.approx(lost / 256, rel=1e-4)
    assert values[f"l1_united/{name}"] == pytest.approx(given / 256, rel=1e-4)
    assert [values[f"{key}/{name}"] for key in ("hit_rate", "removed", "added", "stripped", "united")] == [0] * 5
    assert values[f"kid/{name}@random-conv"] > transferred(Surgeon())[f"kid/{name}@random-conv"]


def test_answers_without_a_model_against_numbers_by_hand():
    values, data = transferred(Surgeon()), Blocks()
    sources, targets = (to_float(torch.from_numpy(data.data(role, "test").images)) for role in "ab")
    rows, others = torch.from_numpy(draw_pairs(len(sources), len(targets), 60, 0)).T
    truth = to_float(data.counterfactual("a", "b", rows.tolist(), others.tolist(), "test")[0])
    name = "smile_to_glasses"
    sigma = values[f"blur/{name}"].item() * 16 / 64
    answers = {
        "untranslated": sources[rows],
        "random": targets[others],
        "mean": targets.mean(0).expand(60, -1, -1, -1),
        "blurred": gaussian_filter(sources[rows].numpy(), (0, 0, sigma, sigma), mode="mirror"),
    }
    for answer, images in answers.items():
        wanted = (torch.as_tensor(images) - truth).abs().mean().item()
        assert values[f"l1_{answer}/{name}"] == pytest.approx(wanted, rel=0.01)  # SciPy's kernel is longer
    assert [values[f"{key}_untranslated/{name}"] for key in ("hit_rate", "removed", "added", "identified")] == [
        0,
        0,
        0,
        1,
    ]
    assert [values[f"{key}_random/{name}"] for key in ("hit_rate", "removed", "added")] == [1, 1, 1]
    assert values[f"identified_random/{name}"] < 0.1
    assert values[f"removed_identified_random/{name}"] <= values[f"identified_random/{name}"]
    assert values[f"identified_mean/{name}"] <= 1 / 20
    assert values[f"kid_untranslated/{name}@random-conv"] > values[f"kid/{name}@random-conv"]


def test_the_blur_is_the_one_that_removes_most():
    """Blocks of 3 by 5 pixels fade into the ground: the stronger, the more of them are below the judge's threshold."""
    values, faint = transferred(Surgeon()), transferred(Surgeon(), Faint())
    name = "smile_to_glasses"
    assert values[f"removed_blurred/{name}"] == 0  # bright blocks stay
    assert 0 < faint[f"removed_blurred/{name}"] == faint[f"removed_identified_blurred/{name}"]
    assert faint[f"blur/{name}"] == 4


class Faint(Blocks):
    """Blocks that are hardly brighter than the ground."""

    def load(self, split):
        data = super().load(split)
        images = data.images.astype(np.float32)
        ground = images[:, :, :1, :1]
        return ImageData((ground + (images - ground) * 0.06).round().astype(np.uint8), None, data.attributes)


def test_a_fog_has_no_smile_and_is_nobody():
    fog = type("Fog", (Surgeon,), {"decode": lambda self, codes, images: torch.full_like(images, -0.5)})
    kept, lost = transferred(Surgeon()), transferred(fog())
    name = "smile_to_glasses"
    assert [kept[f"{key}/{name}"] for key in ("removed", "identified", "removed_identified")] == [1, 1, 1]
    assert [kept[f"{key}_truth/{name}"] for key in ("identified", "added_identified")] == [1, 1]
    assert lost[f"removed/{name}"] == 1
    assert max(lost[f"{key}/{name}"] for key in ("identified", "removed_identified")) <= 1 / 20


def test_removal_and_union_need_guides_and_content_for_both_domains():
    data = Blocks({"glasses": "Eyeglasses and not Smiling", "plain": "not Eyeglasses and not Smiling"})
    nameless = Surgeon(data.domains)  # also finds content in plain images, but nobody knows what
    nameless.contents = data.domains
    nameless.separate = lambda images, domain: images[:, :1, 10, 10]
    plain = transferred(nameless, data, judge="worn")
    for values in (plain, transferred(Surgeon(guided=False)), transferred(Surgeon(), testing=False)):
        assert not [key for key in values if "stripped" in key or "united" in key]


def test_a_union_has_both_contents():
    """Transfers that are right, but removals that leave the smile, and unions that lose it."""

    class Half(Surgeon):
        def decode(self, codes, images):
            if len(codes) == 1:
                return images
            return super().decode({k: v for k, v in codes.items() if len(codes) == 2 or k != "smile"}, images)

    values = transferred(Half())
    name = "smile_to_glasses"
    assert [values[f"{key}/{name}"] for key in ("removed", "added", "stripped", "united")] == [1, 1, 0, 0]


def test_what_codes_know():
    honest, leaky = transferred(Surgeon(), Blocks(count=600)), transferred(Surgeon(leaky=True), Blocks(count=600))
    assert 0.4 < honest["probe/common"] < 0.6
    assert leaky["probe/common"] == 1
    for name in ("probe/smile/glasses", "probe/glasses/smile"):
        assert 0.4 < honest[name] < 0.6
    own = type("Own", (Surgeon,), {"separate": lambda self, images, domain: images.flatten(1)})
    assert transferred(own(lazy=True), Blocks(count=600))["probe/smile/glasses"] > 0.95


class Men(Blocks):
    """Glasses are worn by men alone, who have a white corner; both domains are taken of men."""

    attribute_names = ("Eyeglasses", "Smiling", "Male")

    def load(self, split):
        data = super().load(split)
        men = np.random.default_rng(1).integers(0, 2, self.count, dtype=np.uint8) | data.attributes[:, 0]
        data.images[men == 1, :, 0, 15] = 255
        return ImageData(data.images, None, np.column_stack([data.attributes, men]))


def test_what_tells_contents_only_in_others_than_the_domains_is_no_knowledge():
    """The corner of a face tells glasses in the whole part, not among men."""
    corner = type("Corner", (Surgeon,), {"separate": lambda self, images, domain: images[:, :1, 0, 15]})
    rules = {"smile": "Smiling and not Eyeglasses", "glasses": "Eyeglasses and not Smiling"}
    everyone, men = (Men({k: v + more for k, v in rules.items()}, count=600) for more in ("", " and Male"))
    assert transferred(corner(lazy=True), everyone)["probe/smile/glasses"] > 0.7
    assert transferred(corner(lazy=True), men)["probe/smile/glasses"] == 0.5
    own = type("Own", (Surgeon,), {"separate": lambda self, images, domain: images.flatten(1)})
    assert transferred(own(lazy=True), men)["probe/smile/glasses"] > 0.95


def test_addition_and_removal():
    """Of a pair with and without, only the first has content; a removal takes every image once."""
    data = Blocks({"glasses": "Eyeglasses and not Smiling", "plain": "not Eyeglasses and not Smiling"})
    values = transferred(Surgeon(data.domains), data, judge="worn")
    assert {key for key in values if key.startswith(("removed/", "added/"))} == {
        "removed/glasses_to_plain",
        "added/plain_to_glasses",
    }
    assert values["removed/glasses_to_plain"] == values["added/plain_to_glasses"] == 1
    assert values["n_fake/glasses_to_plain@random-conv"] == len(data.data("a", "test")) < 60
    assert values["n_fake/plain_to_glasses@random-conv"] == 60
    assert values["l1/glasses_to_plain"] < 1e-6
    assert not [key for key in values if key.startswith("probe/glasses")]
    one = transferred(Surgeon(data.domains), data, judge="worn", directions=[["glasses", "plain"]])
    assert not [key for key in one if "plain_to_glasses" in key]
    assert one["l1/glasses_to_plain"] == values["l1/glasses_to_plain"]


def test_changes_outside_a_methods_own_masks():
    data = Blocks({"glasses": "Eyeglasses and not Smiling", "plain": "not Eyeglasses and not Smiling"})
    clean = transferred(Surgeon(data.domains, masked=True), data, judge="worn")
    assert clean["l1_unmasked/plain_to_glasses"] < 1e-6  # all that is drawn lies inside the guide's mask
    assert "l1_unmasked/glasses_to_plain" not in clean
    blind = Surgeon(data.domains, masked=True)
    blind.mask = lambda images, guide=None: torch.zeros_like(images[:, :1])
    values = transferred(blind, data, judge="worn")
    change = values[
        "l1_untranslated/plain_to_glasses"
    ].item()  # from the source to the truth, which a perfect transfer gives
    assert change > 0.01
    assert values["l1_unmasked/plain_to_glasses"].item() == pytest.approx(change, rel=1e-4)
    blind.mask = lambda images, guide=None: torch.ones_like(images[:, :1])
    assert "l1_unmasked/plain_to_glasses" not in transferred(blind, data, judge="worn")  # nothing lies outside


def test_one_image_is_no_distribution():
    class One(Blocks):
        def data(self, role, split):
            data = super().data(role, split)
            return data.keep(np.arange(1)) if role == "b" else data

    values = transferred(Surgeon(), One())
    assert values["hit_rate/smile_to_glasses"] == 1
    assert not [key for key in values if key.startswith(("kid", "fid", "n_real"))]


def test_the_domain_classifier_may_be_positive_for_either_domain():
    for judge in ("which", "worn"):
        values = transferred(Surgeon(), judge=judge)
        for name in ("smile_to_glasses", "glasses_to_smile"):
            assert values[f"hit_rate/{name}"] == 1
            assert values[f"hit_rate_untranslated/{name}"] == 0
        assert values[f"domain_accuracy@{judge}"] == 1


def test_a_validation_is_short():
    values = transferred(Surgeon(), testing=False)
    names = ("smile_to_glasses", "glasses_to_smile")
    assert set(values) == {f"{key}/{name}" for key in ("hit_rate", "removed", "added", "l1") for name in names}


def on_validation_images(callback, method, data):
    """What the command ``validate`` reports."""
    run = attach(method, data, testing=False)
    run.state.fn = TrainerFn.VALIDATING
    callback.setup(run, method, "validate")
    callback.begin(run, method)
    return callback.report(run, False)


def test_the_command_validate_measures_what_a_test_does_on_validation_images():
    data, method = Blocks(), Surgeon(lazy=True).eval()
    values = on_validation_images(ContentTransfer(pairs=60), method, data)
    assert values.keys() == evaluated(ContentTransfer(pairs=60), method, data).keys()
    images, guides = (data.data(role, "val").images.astype(float) / 127.5 for role in "ab")
    pairs = draw_pairs(len(images), len(guides), 60, 0)
    ground, block = images[pairs[:, 0], :, 0, 0], images[pairs[:, 0], :, 3, 3]
    change = np.abs(block - ground).mean() * 15 + np.abs(guides[pairs[:, 1], :, 10, 10] - ground).mean() * 25
    assert values["l1/smile_to_glasses"] == pytest.approx(change / 256, rel=1e-4)
    assert values["n_real/smile_to_glasses@random-conv"] == len(guides)


class Faces:
    """A judge from outside that knows the ground."""

    name = "dlib"

    def features(self, images):
        return images[:, :, 0, 0]


def test_a_judge_from_outside_looks_at_the_first_pairs(monkeypatch):
    monkeypatch.setattr("xdomain.callbacks.content.OUTSIDE", 14)
    monkeypatch.setattr("xdomain.callbacks.content.DlibEmbedder", Faces)
    values = transferred(Surgeon(), outside="dlib", pairs=24)
    few = transferred(Surgeon(), pairs=14)
    for name in ("smile_to_glasses", "glasses_to_smile"):
        for key in ("identity", "identified", "removed_identified", "added_identified"):
            for answer in ("", "_untranslated", "_random", "_mean"):
                assert values[f"{key}{answer}/{name}@dlib"] == pytest.approx(few[f"{key}{answer}/{name}"])
    assert not [key for key in values if "truth" in key and "dlib" in key]


def test_a_judge_that_is_not_installed_is_left_out(monkeypatch):
    def missing():
        raise UserError("run make judges.")

    monkeypatch.setattr("xdomain.callbacks.content.DlibEmbedder", missing)
    with pytest.warns(UserWarning, match="leaves out dlib: run make judges"):
        values = transferred(Surgeon(), outside="dlib", pairs=10)
    assert not [key for key in values if "dlib" in key]


def test_without_judges():
    keys = {key.split("/")[0] for key in evaluated(ContentTransfer(pairs=10), Surgeon(), Blocks())}
    compared = ("l1", "l1_inside", "l1_outside", "kid", "fid")
    answers = ("", "_untranslated", "_blurred", "_random", "_mean")
    assert keys == {
        *(f"{key}{answer}" for key in compared for answer in answers),
        *(f"colour_of_{key}{answer}" for key in ("guide", "source") for answer in answers[:-1]),  # the mean has one
        *("blur", "l1_stripped", "l1_united", "kid_std", "n_real", "n_fake", "probe"),
    }


def test_what_content_transfer_refuses():
    with pytest.raises(UserError, match="ContentTransfer: pairs is 1"):
        ContentTransfer(pairs=1)
    with pytest.raises(UserError, match="direction smile to smile: give two domains"):
        transferred(Surgeon(), directions=[["smile", "smile"]])
    with pytest.raises(UserError, match="unknown domain 'hat'"):
        transferred(Surgeon(), directions=[["smile", "hat"]])
    with pytest.raises(UserError, match="ToyGAN transfers no content"):
        transferred(ToyGAN(), ToyPair())
    for source, known in (("both", "smile, glasses"), ("hat", "hat")):
        callback = ContentTransfer(source)
        callback.judges = {"domain_classifier": Held(DomainJudge("smile", "glasses"))}
        message = f"domain_classifier is {source}, which knows {known}: give one with a single target, smile or glasses"
        with pytest.raises(UserError, match=message):
            evaluated(callback, Surgeon(), Blocks(), testing=False)


def test_pairs_and_positions():
    pairs = draw_pairs(7, 5, 70, seed=0)
    assert pairs.shape == (70, 2)
    assert np.bincount(pairs[:, 0]).tolist() == [10] * 7
    assert np.bincount(pairs[:, 1]).tolist() == [14] * 5
    assert len(np.unique(draw_pairs(7, 7, 70, seed=0), axis=0)) > 30  # shuffled anew: not ten times the same seven
    assert np.array_equal(draw_pairs(7, 5, 70, seed=0), pairs)
    assert not np.array_equal(draw_pairs(7, 5, 70, seed=1), pairs)
    assert spread(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert spread(9, 3).tolist() == [0, 4, 8]
    assert rule_of("Smiling", ("Smiling",)) == "Smiling"
    assert rule_of("Facial_Hair", ("Goatee", "Mustache", "No_Beard")) == "Mustache or Goatee or not No_Beard"
    assert rule_of("Facial_Hair", ("Smiling",)) is None


def eye():
    """A classifier whose Grad-CAM are the bright pixels of the first channel."""
    network = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1))
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), ([1, 0, 0], -0.3, 1, 0), strict=True):
            parameter.copy_(torch.tensor(value, dtype=torch.float32).view(parameter.shape))
    return Held(network.eval())


def masks(method, data, classifier=True, testing=True, **options):
    callback = ContentMasks("what" if classifier else None, images=20, **options)
    callback.helper, callback.targets = eye() if classifier else None, ("Eyeglasses",)
    return evaluated(callback, method.eval(), data, testing)


def test_masks():
    data = Blocks("glasses")
    data.rules = {"glasses": "Eyeglasses and not Smiling", "plain": "not Eyeglasses and not Smiling"}
    values = masks(Surgeon(data.domains, masked=True), data)
    for suffix in ("", "_difference", "_cam"):
        assert values[f"mask_iou{suffix}/glasses"] == 1
        assert 0 < values[f"mask_threshold{suffix}/glasses"] < 1
    assert values["l1_outside_mask/glasses"] < 1e-6
    assert values["n_masks/glasses"] == 20
    assert values["mask_mean/glasses"] == pytest.approx(0.9 * 25 / 256)
    tinted = masks(Surgeon(data.domains, tint=0.01), data, classifier=False)
    assert tinted["l1_outside_mask/glasses"] == pytest.approx(0.01, rel=1e-3)
    assert set(tinted) == {
        f"{key}/glasses" for key in ("mask_iou_difference", "mask_threshold_difference", "l1_outside_mask", "n_masks")
    }
    assert masks(Surgeon(data.domains, lazy=True), data, classifier=False)["mask_iou_difference/glasses"] == 0


def test_masks_that_miss():
    """A mask of everything has the area of the content as its index."""
    data = Blocks("glasses")
    method = Surgeon(data.domains, masked=True)
    method.mask = lambda images: torch.full_like(images[:, :1], 0.97)
    assert masks(method, data, classifier=False)["mask_iou/glasses"] == pytest.approx(25 / 256)


def test_no_masks_without_truth_nor_in_a_validation():
    data = Blocks("glasses")
    assert masks(Surgeon(data.domains), data, testing=False) == {}
    assert masks(Surgeon(("smile", "neutral")), Blocks("smile")) == {}
    with pytest.raises(UserError, match="target is Hat, but the classifier has Eyeglasses"):
        masks(Surgeon(data.domains), data, target="Hat")


def tile(picture, row, column):
    """The 16x16 image at a place of a grid with a border of one pixel."""
    return picture[1 + 17 * row : 17 + 17 * row, 1 + 17 * column : 17 + 17 * column]


def test_pictures():
    data, method = Blocks(), Surgeon()
    run = trainer(callbacks=[TransferPictures(count=3)])
    run.test(method, datamodule=data, verbose=False)
    folder = run.run_dir / "samples"
    assert {path.name for path in folder.iterdir()} == {
        *("transfer_smile_to_glasses_test.png", "transfer_glasses_to_smile_test.png"),
        *("removal_smile_test.png", "removal_glasses_test.png", "union_test.png", "interpolation.png"),
    }
    images, guides = (data.data(role, "test").images for role in "ab")
    (x, y) = (part[spread(len(part), 3)] for part in (images, guides))
    picture = np.array(Image.open(folder / "transfer_smile_to_glasses_test.png"))
    assert picture.shape == (4 * 17 + 1, 4 * 17 + 1, 3)
    assert (tile(picture, 0, 0) == 255).all()
    for i in range(3):
        assert np.array_equal(tile(picture, 0, i + 1), y[i].transpose(1, 2, 0))
        assert np.array_equal(tile(picture, i + 1, 0), x[i].transpose(1, 2, 0))
        for j in range(3):
            at = [spread(len(part), 3)[k] for part, k in ((images, i), (guides, j))]
            wanted = data.counterfactual("a", "b", [at[0]], [at[1]], "test")[0][0].permute(1, 2, 0).numpy()
            assert np.abs(tile(picture, i + 1, j + 1).astype(int) - wanted).max() <= 1
    picture = np.array(Image.open(folder / "removal_glasses_test.png"))
    assert picture.shape == (2 * 17 + 1, 3 * 17 + 1, 3)
    assert np.array_equal(tile(picture, 0, 2), y[2].transpose(1, 2, 0))
    assert (tile(picture, 1, 2) == y[2][:, 0, 0]).all()
    picture = np.array(Image.open(folder / "union_test.png"))
    assert picture.shape == (3 * 17 + 1, 3 * 17 + 1, 3)
    for row, part in enumerate((x, y)):
        assert np.array_equal(tile(picture, row, 1), part[1].transpose(1, 2, 0))
    union = torch.from_numpy(x[1:2].copy())  # a smile already
    place = PLACES["glasses"]
    draw(union, "glasses", torch.from_numpy(y[1:2, :1, place[0], place[1]].copy()))
    assert np.abs(tile(picture, 2, 1).astype(int) - union[0].permute(1, 2, 0).numpy()).max() <= 1
    assert Image.open(folder / "interpolation.png").size == (3 * 17 + 1, 3 * 17 + 1)


def test_pictures_of_masks():
    data = Blocks("glasses")
    method = Surgeon(data.domains, masked=True)
    attach(method, data)
    shown = TransferPictures(count=4).pictures(method, "val")
    assert set(shown) == {"transfer_plain_to_glasses", "removal_glasses", "masks"}
    picture = shown["masks"].permute(1, 2, 0).numpy()
    x = data.data("a", "val").images[spread(len(data.data("a", "val")), 4)]
    share = 0.7 * 0.9
    block = (1 - share) * x[1][:, 10, 10] + share * np.array([255, 0, 0])
    assert np.abs(tile(picture, 1, 1)[10, 10] - block).max() < 1
    assert np.array_equal(tile(picture, 1, 1)[0, 0], x[1][:, 0, 0])
    assert set(TransferPictures().pictures(method, "test")) == {*shown, "interpolation"}
    method.guided = False
    assert "transfer_plain_to_glasses" not in TransferPictures().pictures(method, "val")


def test_a_real_method_in_the_loop_of_lightning(tmp_path):
    """Also in inference mode, as Lightning's test is."""
    data = Blocks("glasses", batch_size=4)
    method = MaskedTransfer(width=4, sep=3, domains=data.domains, channels=data.channels, image_size=16)
    callbacks = [ContentTransfer(pairs=8, val_pairs=8), ContentMasks(images=8), TransferPictures(2)]
    callbacks[1].helper, callbacks[1].targets, callbacks[1].classifier = eye(), ("Eyeglasses",), None
    run = trainer(max_steps=2, val_check_interval=2, callbacks=callbacks)
    run.fit(method, datamodule=data)
    assert run.callback_metrics["val/l1/plain_to_glasses"] > 0
    assert (run.run_dir / "samples" / "masks_0000002.png").exists()
    (values,) = run.test(method, datamodule=data, verbose=False)
    assert {"mask_iou/glasses", "mask_iou_cam/glasses", "probe/common", "l1_outside_mask/glasses"} <= set(values)
    assert not [key for key in values if "stripped" in key or "united" in key]  # only one domain has content
    x = to_float(torch.from_numpy(data.data("a", "test").images))
    assert values["mask_mean/glasses"] == pytest.approx(method.mask(x[spread(len(x), 8)]).mean().item(), rel=1e-4)
