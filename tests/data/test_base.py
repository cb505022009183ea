"""The data contract: uint8 from the data sets, float in [-1, 1] for the method, augmentation by seed and step."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.toys import Jitter, ToyPair
from xdomain.batch import Sample, to_channels, to_float, to_uint8
from xdomain.data import DomainPair, ImageData, SingleDomain
from xdomain.errors import UserError


class Ten(SingleDomain):
    """Thirty images, the value of which is their number; classes 0, 1, 2 in turn."""

    domains = ("ten",)
    channels = (1,)

    def __init__(self, image_size=4, **options):
        super().__init__(**options)
        self.image_size = image_size
        self.loads = 0

    def load(self, split):
        self.loads += 1
        numbers = np.arange(30)
        images = np.broadcast_to(numbers[:, None, None, None], (30, 1, self.image_size, self.image_size))
        return ImageData(images.astype(np.uint8), numbers % 3)


class Other(Ten):
    domains = ("other",)
    channels = (3,)


def numbers(data):
    return data.images[:, 0, 0, 0].tolist()


def test_all_bytes_survive_the_way_to_float_and_back():
    values = torch.arange(256, dtype=torch.uint8)
    floats = to_float(values)
    assert torch.equal(to_uint8(floats), values)
    assert (floats.min().item(), floats.max().item()) == (-1.0, 1.0)
    torch.testing.assert_close(floats, torch.linspace(-1, 1, 256))
    assert values.dtype == torch.uint8


def test_values_outside_the_range_are_clamped():
    assert to_uint8(torch.tensor([-1.2, -1.0, 0.0, 1.0, 1.004, 3.0])).tolist() == [0, 0, 128, 255, 255, 255]
    assert to_uint8(torch.tensor([0.5], dtype=torch.bfloat16)).tolist() == [191]


def test_channels():
    grey, colour = torch.rand(2, 1, 3, 3), torch.rand(2, 3, 3, 3)
    assert to_channels(grey, 1) is grey
    assert to_channels(colour, 3) is colour
    assert torch.equal(to_channels(grey, 3), torch.cat([grey] * 3, dim=1))
    r, g, b = colour.unbind(1)
    torch.testing.assert_close(to_channels(colour, 1)[:, 0], 0.299 * r + 0.587 * g + 0.114 * b)
    torch.testing.assert_close(to_channels(to_channels(grey, 3), 1), grey)
    with pytest.raises(ValueError, match="4 channels into 3"):
        to_channels(torch.rand(1, 4, 2, 2), 3)


def test_image_data():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (9, 3, 2, 2), dtype=np.uint8), rng.integers(0, 4, 9)
    data = ImageData(images, labels)
    sample = data.__getitems__([7, 2, 2])
    assert sample.image.dtype == torch.uint8
    assert np.array_equal(sample.image.numpy(), images[[7, 2, 2]])
    assert sample.label.tolist() == labels[[7, 2, 2]].tolist()
    assert sample.position.tolist() == [7, 2, 2]
    assert data[4].image.shape == (1, 3, 2, 2)
    assert ImageData(images)[0].label is None
    kept = data.keep(labels == 1)
    assert len(kept) == (labels == 1).sum()
    assert np.array_equal(kept.images, images[labels == 1])
    assert np.array_equal(data.keep(np.array([5, 0])).labels, labels[[5, 0]])


def test_samples_do_not_share_memory_with_the_data():
    images = np.zeros((3, 1, 2, 2), dtype=np.uint8)
    ImageData(images)[0].image.fill_(9)
    assert images.sum() == 0


def test_limit_and_excluded_classes_only_in_training():
    data = Ten(limit=4, exclude_classes=[1])
    assert numbers(data.data("a", "train")) == [0, 2, 3, 5]
    for split in ("val", "test"):
        assert numbers(data.data("a", split)) == list(range(30))
    assert numbers(Ten(limit=99).data("a", "train")) == list(range(30))


def test_a_split_is_loaded_once():
    data = Ten()
    assert data.data("a", "train") is data.data("a", "train")
    assert data.loads == 1


@pytest.mark.parametrize("options", [{"limit": 0}, {"exclude_classes": [0, 1, 2]}])
def test_an_empty_training_part_is_refused(options):
    with pytest.raises(UserError, match="train part of ten is empty: check limit and exclude_classes"):
        Ten(**options).data("a", "train")


@pytest.mark.parametrize("name", ["batch_size", "eval_batch_size"])
def test_a_batch_holds_at_least_one_image(name):
    with pytest.raises(UserError, match=f"^Ten: {name} is 0: give"):
        Ten(**{name: 0})


def test_domain_pair():
    pair = DomainPair(Other(limit=5), Ten(limit=6), batch_size=3)
    assert pair.domains == ("other", "ten")
    assert pair.channels == (3, 1)
    assert pair.image_size == 4
    assert (len(pair.data("a", "train")), len(pair.data("b", "train"))) == (5, 6)
    assert [pair.role_of(name) for name in pair.domains] == ["a", "b"]
    with pytest.raises(UserError, match="unknown domain 'mnist': this data has other and ten"):
        pair.role_of("mnist")


def test_one_number_of_channels_for_both_domains():
    ten, other = Ten(limit=6), Other(limit=5)
    rgb = DomainPair(other, ten, channels=3)
    assert rgb.channels == (3, 3)
    assert rgb.data("a", "train") is other.data("a", "train")
    images = rgb.data("b", "train").images
    assert images.shape == (6, 3, 4, 4)
    assert (images == ten.data("a", "train").images).all()
    sample = rgb.data("b", "train").__getitems__([4, 1])
    assert sample.image.shape == (2, 3, 4, 4)
    assert (sample.image[0] == 4).all()
    assert sample.label.tolist() == [1, 1]
    assert rgb.data("b", "train") is rgb.data("b", "train")
    with pytest.raises(UserError, match="channels is 2: give 1 for grey, 3 for RGB, or null"):
        DomainPair(other, ten, channels=2)


def test_colours_become_grey_by_luma(monkeypatch):
    monkeypatch.setattr("xdomain.data.base.PIECE", 2)
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 2, 2), dtype=np.uint8)
    grey = ImageData(images, np.arange(5)).keep(np.array([3, 0, 4])).with_channels(1)
    luma = np.tensordot(images[[3, 0, 4]], [0.299, 0.587, 0.114], (1, 0))
    assert grey.images.shape == (3, 1, 2, 2)
    assert grey.images.dtype == np.uint8
    assert np.abs(grey.images[:, 0] - luma).max() <= 0.51
    assert grey.labels.tolist() == [3, 0, 4]


def test_sizes_that_differ_are_refused():
    with pytest.raises(UserError, match="other has 8, ten has 4 pixels"):
        DomainPair(Other(image_size=8), Ten())


def test_one_root_for_both_domains(tmp_path):
    a, b = Other(root=str(tmp_path / "a")), Ten(root=str(tmp_path / "b"))
    assert DomainPair(a, b).root == tmp_path / "a"
    assert b.root == tmp_path / "b"
    DomainPair(a, b, root=str(tmp_path / "both"))
    assert a.root == b.root == tmp_path / "both"


def test_training_batches_hold_one_sample_per_role():
    pair = DomainPair(Other(limit=4), Ten(), batch_size=5)
    loader = pair.train_dataloader()
    seen = [batch for batch, _, _ in iter(loader)]
    assert len(seen) == 6  # one pass over the larger domain
    assert all(set(batch) == {"a", "b"} for batch in seen)
    assert all(len(batch["a"].image) == len(batch["b"].image) == 5 for batch in seen)
    positions = torch.cat([batch["b"].position for batch in seen])
    assert sorted(positions.tolist()) == list(range(30))


@pytest.mark.parametrize("part", ["val", "test"])
def test_evaluation_sees_every_image_of_both_roles_once(part):
    data = ToyPair(eval_batch_size=4)
    data.data = lambda role, split: ImageData(np.zeros(({"a": 11, "b": 5}[role], 1, 2, 2), dtype=np.uint8))
    seen = {"a": [], "b": []}
    for batch, _, _ in iter(getattr(data, f"{part}_dataloader")()):
        for role, sample in data.on_after_batch_transfer(batch, 0).items():
            seen[role] += sample.position.tolist()
    assert seen == {"a": list(range(11)), "b": list(range(5))}


def test_prediction_sees_every_source_image_once():
    loader = ToyPair(eval_batch_size=4).predict_dataloader()
    batches = list(loader)
    assert len(batches) == len(loader) == 3
    assert all(set(batch) == {"a"} for batch in batches)
    assert torch.cat([batch["a"].position for batch in batches]).tolist() == list(range(10))


def transferred(step=3, rank=0, training=True, seed=0, augment=True):
    data = Ten(augment=Jitter() if augment else None, seed=seed)
    data.trainer = SimpleNamespace(training=training, global_step=step, global_rank=rank)
    image = torch.arange(0, 160, 10, dtype=torch.uint8).view(1, 1, 4, 4)
    batch = data.on_after_batch_transfer({"a": Sample(image, torch.tensor([0])), "b": None}, 0)
    assert set(batch) == {"a"}
    return batch["a"].image, to_float(image)


def test_augmentation_is_a_function_of_seed_step_and_rank():
    torch.manual_seed(1)
    first, plain = transferred()
    torch.manual_seed(2)
    torch.randn(5)
    assert torch.equal(transferred()[0], first)
    assert not torch.equal(first, plain)
    for change in ({"step": 4}, {"rank": 1}, {"seed": 1}):
        assert not torch.equal(transferred(**change)[0], first), change


def test_augmentation_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    transferred()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("options", [{"training": False}, {"augment": False}])
def test_nothing_changes_the_images_outside_of_training_or_without_augmentation(options):
    image, plain = transferred(**options)
    assert torch.equal(image, plain)


def test_the_domains_of_a_pair_are_augmented_by_their_own_modules():
    pair = DomainPair(Other(augment=Jitter()), Ten())
    assert isinstance(pair.augmentation("a"), Jitter)
    assert pair.augmentation("b") is None


def test_attributes_travel_with_their_images():
    images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
    attributes = np.stack([np.arange(6) % 2, np.arange(6) % 3 == 0], 1).astype(np.uint8)
    data = ImageData(images, np.arange(6) * 10, attributes).keep(np.array([5, 2, 3])).keep(np.array([2, 0]))
    sample = data.__getitems__([1, 0])
    assert sample.image.flatten().tolist() == [5, 3]
    assert sample.label.tolist() == [50, 30]
    assert sample.position.tolist() == [1, 0]
    assert sample.attributes.tolist() == attributes[[5, 3]].tolist()
    assert (len(data), data.images.flatten().tolist(), data.attributes.tolist()) == (2, [3, 5], [[1, 1], [1, 0]])


def test_a_pair_is_made_of_modules_with_one_domain():
    with pytest.raises(UserError, match="b is a DomainPair, which has the domains"):
        DomainPair(Ten(), DomainPair(Other(), Ten()))
