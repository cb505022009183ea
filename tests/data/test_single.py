"""One image or a pair: shrunk but never enlarged, the same in every split, refused where nothing can be learned."""

import itertools
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import LightningModule, Trainer

from xdomain.data.single import PHOTOGRAPHS, ImagePair, SingleImage
from xdomain.errors import UserError

SPLITS = ("train", "val", "test")


def save(path, height, width, seed=0):
    """A lossless image of noise; returns its name and its pixels [3, H, W]."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path), torch.from_numpy(pixels.transpose(2, 0, 1))


# ---------------------------------------------------------------- one image


def test_a_small_image_stays_as_it_is(tmp_path):
    path, pixels = save(tmp_path / "x.png", 40, 60)
    data = SingleImage(path)
    assert torch.equal(data.image(), pixels)
    assert (data.shapes, data.image_size) == (((40, 60),), 60)
    assert (data.domains, data.channels, data.roles) == (("image",), (3,), ("a",))
    for split in SPLITS:
        np.testing.assert_array_equal(data.data("a", split).images, pixels[None])


@pytest.mark.parametrize(
    ("height", "width", "max_size", "shape"),
    [
        (366, 585, 250, (157, 250)),  # like SinGAN, which rounds up
        (280, 348, 250, (202, 250)),
        (348, 280, 250, (250, 202)),
        (251, 251, 250, (250, 250)),
        (250, 188, 250, (250, 188)),
        (40, 60, 30, (20, 30)),
    ],
)
def test_the_longer_side_is_shrunk(tmp_path, height, width, max_size, shape):
    path, _ = save(tmp_path / "x.png", height, width)
    data = SingleImage(path, max_size=max_size)
    assert data.shapes == (shape,)
    assert data.image().shape == (3, *shape)
    assert data.image().dtype == torch.uint8
    assert data.image_size == max(shape)


def test_shrinking_antialiases_and_does_not_wrap_around(tmp_path):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32:4] = 255  # a quarter white
    pixels[:, 48:] = 255
    Image.fromarray(pixels).save(tmp_path / "x.png")
    small = SingleImage(str(tmp_path / "x.png"), max_size=16).image().int()
    assert (small[:, :, 1:6] - 64).abs().max() < 8  # without antialiasing the stripes vanish or stay
    assert small[:, :, 9:11].max() < 64
    assert small[:, :, 13:].min() > 191


def test_grey_and_transparent_files_become_rgb(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 4), dtype=np.uint8)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    assert torch.equal(SingleImage(str(tmp_path / "grey.png")).image()[2], torch.from_numpy(pixels[..., 0]))
    pixels[..., 3] = 0
    pixels[0, 0] = (1, 2, 3, 255)
    Image.fromarray(pixels).save(tmp_path / "rgba.png")
    image = SingleImage(str(tmp_path / "rgba.png")).image()
    assert image[:, 0, 0].tolist() == [1, 2, 3]
    assert (image[:, 1:] == 255).all()


def test_home_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path / "x.png", 20, 20)
    assert SingleImage("~/x.png").shapes == ((20, 20),)


# ---------------------------------------------------------------- photographs that come with scikit-image


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_are_installed(name):
    file = Path(str(files("skimage"))) / "data" / PHOTOGRAPHS[name]
    data = SingleImage(f"scikit-image:{name}", max_size=64)
    assert data.image_size == 64
    with Image.open(file) as image:
        thumbnail = np.asarray(image.convert("RGB").resize(data.shapes[0][::-1], Image.Resampling.BICUBIC)).astype(int)
    difference = np.abs(data.image().permute(1, 2, 0).numpy() - thumbnail)
    assert np.percentile(difference, 99) <= 12  # PIL's cubic is a little softer


def test_unknown_photographs():
    with pytest.raises(UserError, match=r"scikit-image:cofee is none of the photo.*: did you mean coffee\?"):
        SingleImage("scikit-image:cofee")
    with pytest.raises(UserError, match=r"scikit-image: is none .*: choose from astronaut .* rocket\."):
        SingleImage("scikit-image:")
    with pytest.raises(UserError, match="none of the photographs"):
        SingleImage("scikit-image:../data/coffee")


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("height", "width", "max_size", "becomes"),
    [(11, 30, 250, "11x30"), (30, 11, 250, "30x11"), (40, 400, 100, "10x100")],
)
def test_images_without_room_for_patches(tmp_path, height, width, max_size, becomes):
    path, _ = save(tmp_path / "x.png", height, width)
    sentence = f"x.png with {height}x{width} pixels becomes {becomes} at max_size {max_size}: both .* at least 12"
    with pytest.raises(UserError, match=sentence):
        SingleImage(path, max_size=max_size)


def test_the_smallest_image(tmp_path):
    path, _ = save(tmp_path / "x.png", 12, 12)
    assert SingleImage(path).shapes == ((12, 12),)


def test_a_huge_image(tmp_path):
    path, _ = save(tmp_path / "x.png", 12, 20_001)
    with pytest.raises(UserError, match=r"x\.png has 12x20001 pixels: shrink it to sides of at most 20,000"):
        SingleImage(path)


def test_one_colour(tmp_path):
    image = Image.new("RGB", (20, 20), (10, 200, 30))
    image.save(tmp_path / "x.png")
    with pytest.raises(UserError, match=r"x\.png is of one colour: give"):
        SingleImage(str(tmp_path / "x.png"))
    image.putpixel((19, 19), (10, 200, 31))
    image.save(tmp_path / "x.png")
    assert SingleImage(str(tmp_path / "x.png")).shapes == ((20, 20),)


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(UserError, match=r"absent\.png does not exist"):
        SingleImage(str(tmp_path / "absent.png"))
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"x\.png cannot be read as an image"):
        SingleImage(str(tmp_path / "x.png"))


def test_an_epoch_without_steps(tmp_path):
    with pytest.raises(UserError, match=r"steps_per_epoch is 0: give at least 1"):
        SingleImage("scikit-image:coffee", steps_per_epoch=0)


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_training_batch_is_the_image(tmp_path, batch_size):
    path, pixels = save(tmp_path / "x.png", 14, 20)
    batches = [batch for batch, *_ in SingleImage(path, steps_per_epoch=7, batch_size=batch_size).train_dataloader()]
    assert len(batches) == 7
    for batch in batches:
        assert set(batch) == {"a"}
        assert torch.equal(batch["a"].image, pixels.expand(batch_size, -1, -1, -1))
        assert batch["a"].position.tolist() == [0] * batch_size
        assert batch["a"].label is None


class Watcher(LightningModule):
    """Writes down what it is given."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.seen = {"training": [], "validation": []}

    def configure_optimizers(self):
        return []

    def training_step(self, batch, batch_idx):
        self.seen["training"].append({role: sample.image for role, sample in batch.items()})

    def validation_step(self, batch, batch_idx):
        self.seen["validation"].append({role: sample.image for role, sample in batch.items()})


def test_a_trainer_sees_floats_and_epochs_of_the_wanted_length(tmp_path):
    (a, pixels_a), (b, pixels_b) = save(tmp_path / "a.png", 14, 20, 1), save(tmp_path / "b.png", 30, 16, 2)
    method = Watcher()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = Trainer(accelerator="cpu", max_epochs=2, num_sanity_val_steps=0, **quiet)
    trainer.fit(method, ImagePair(a, b, steps_per_epoch=3))
    assert {name: len(batches) for name, batches in method.seen.items()} == {"training": 6, "validation": 2}
    for batch in itertools.chain(*method.seen.values()):
        for role, pixels in (("a", pixels_a), ("b", pixels_b)):
            assert batch[role].dtype == torch.float32
            torch.testing.assert_close(batch[role], pixels[None] / 127.5 - 1)


# ---------------------------------------------------------------- a pair


def test_a_pair_keeps_both_aspect_ratios(tmp_path):
    (a, pixels), (b, _) = save(tmp_path / "left.one.png", 20, 30, 1), save(tmp_path / "right.png", 80, 40, 2)
    data = ImagePair(a, b, max_size=60)
    assert data.domains == ("left.one", "right")
    assert data.channels == (3, 3)
    assert data.shapes == ((20, 30), (60, 30))
    assert data.image_size == 60
    assert torch.equal(data.image("a"), pixels)
    for role, split in itertools.product("ab", SPLITS):
        np.testing.assert_array_equal(data.data(role, split).images[0], data.image(role))
    assert data.role_of("right") == "b"


def test_names_of_a_pair(tmp_path):
    assert ImagePair("scikit-image:coffee", "scikit-image:rocket").domains == ("coffee", "rocket")
    assert ImagePair("scikit-image:coffee", "scikit-image:rocket", names=("cup", "sky")).domains == ("cup", "sky")
    (tmp_path / "other").mkdir()
    (a, _), (b, _) = save(tmp_path / "x.png", 20, 20, 1), save(tmp_path / "other/x.bmp", 20, 20, 2)
    with pytest.raises(UserError, match=r"both sides of the pair are called x: set names to two names"):
        ImagePair(a, b)
    assert ImagePair(a, b, names=("x", "y")).domains == ("x", "y")
    with pytest.raises(UserError, match="are called y"):
        ImagePair(a, b, names=("y", "y"))


def test_relative_paths_are_also_looked_for_in_the_data_root(tmp_path, monkeypatch):
    root = tmp_path / "root"
    (root / "pairs").mkdir(parents=True)
    monkeypatch.setenv("XDOMAIN_DATA", str(root))
    _, below = save(root / "pairs/x.png", 20, 24)
    assert torch.equal(SingleImage("pairs/x.png").image(), below)
    (tmp_path / "pairs").mkdir()
    _, here = save(tmp_path / "pairs/x.png", 20, 24, 1)  # tests run in tmp_path
    assert torch.equal(SingleImage("pairs/x.png").image(), here)
    with pytest.raises(UserError, match=r"pairs/y\.png"):
        SingleImage("pairs/y.png")


def test_both_images_of_a_pair_are_checked(tmp_path):
    good, _ = save(tmp_path / "good.png", 20, 20)
    bad, _ = save(tmp_path / "bad.png", 20, 5)
    for a, b in ((good, bad), (bad, good)):
        with pytest.raises(UserError, match=r"bad\.png with 20x5 pixels"):
            ImagePair(a, b)
