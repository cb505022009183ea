"""One image of a domain and many of another: whose they are, and what augments them."""

import numpy as np
import pytest
import torch
import yaml

from tests.fakes.folders import write_flat, write_picture
from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.commands.main import main
from xdomain.data import DomainPair, FacadeWorld, Handwritten, ImageAndFolder, OneShot, Street
from xdomain.data.attributes import HorizontalFlip
from xdomain.data.one_shot import OneShotJitter
from xdomain.errors import SettingError, UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of this test's own."""
    monkeypatch.setenv("XDOMAIN_CACHE", str(tmp_path / "cache"))


def facades(**options):
    return FacadeWorld(image_size=16, train_size=5, val_size=3, test_size=4, **options)


def images(module, role, split):
    return module.data(role, split).images


def test_one_image_of_the_test_part_against_all_training_images():
    whole = ToyPair()
    data = OneShot(whole, sample=7)
    assert (data.domains, data.channels, data.image_size, data.paired) == (("red", "grey"), (3, 1), 8, False)
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(images(data, "a", split), images(whole, "a", "test")[7:8])
        np.testing.assert_array_equal(images(data, "b", split), images(whole, "b", split))
        assert data.data("a", split).labels == whole.data("a", "test").labels[7:8]


def test_true_pair_stands_beside_the_image_and_not_in_training():
    whole = facades()
    data = OneShot(whole, sample=2)
    assert data.paired
    for split in ("val", "test"):
        np.testing.assert_array_equal(images(data, "b", split), images(whole, "b", "test")[2:3])
    np.testing.assert_array_equal(images(data, "b", "train"), images(whole, "b", "train"))
    assert not any(np.array_equal(image, images(data, "b", "test")[0]) for image in images(data, "b", "train"))


def test_the_other_way_round():
    whole = ToyPair()
    data = OneShot(whole, sample=1, reverse=True)
    assert (data.domains, data.channels) == (("grey", "red"), (1, 3))
    np.testing.assert_array_equal(images(data, "a", "train"), images(whole, "b", "test")[1:2])
    np.testing.assert_array_equal(images(data, "b", "train"), images(whole, "a", "train"))
    assert OneShot(facades(), reverse=True).palettes == facades().palettes


def test_domains_of_different_shapes_change_places():
    class Tall(ToyPair):
        shapes = ((8, 16), (8, 8))

    assert OneShot(Tall()).shapes == ((8, 16), (8, 8))
    assert OneShot(Tall(), reverse=True).shapes == ((8, 8), (8, 16))


def test_batches_hold_the_image_beside_every_batch_of_the_many():
    data = OneShot(ToyPair(), sample=3, batch_size=4)
    whole = set()
    batches = [batch for batch, _, _ in data.train_dataloader()]
    assert len(batches) == 12 // 4
    for batch in batches:
        assert batch["a"].image.shape == (4, 3, 8, 8)
        assert (batch["a"].image.numpy() == images(data, "a", "train")).all()
        whole |= set(batch["b"].position.tolist())
    assert whole == set(range(12))


def test_every_sample_and_direction_has_its_own_fingerprint():
    made = [OneShot(facades(), sample=n, reverse=reverse) for n in (0, 1) for reverse in (False, True)]
    assert len({data.fingerprint() for data in made}) == 4
    assert OneShot(facades()).fingerprint() == OneShot(facades(), augment="jitter", batch_size=3).fingerprint()
    assert OneShot(facades()).fingerprint() != OneShot(facades(world_seed=1)).fingerprint()


def test_augmentation_is_that_of_drawings_of_digits_or_of_the_data():
    kinds = {
        (augment, jitter): [
            type(OneShot(facades(jitter=jitter), augment=augment).augmentation(role)).__name__ for role in "ab"
        ]
        for augment in (None, "flip", "jitter")
        for jitter in (False, True)
    }
    assert kinds[None, False] == ["NoneType", "NoneType"]
    assert kinds[None, True] == ["ResizeCropFlip", "ResizeCropFlip"]
    assert kinds["flip", False] == kinds["flip", True] == ["NoneType", "HorizontalFlip"]
    assert kinds["jitter", False] == kinds["jitter", True] == ["OneShotJitter", "OneShotJitter"]
    turned = HorizontalFlip()
    pair = DomainPair(Street(train_size=4, val_size=1, test_size=2), Handwritten(augment=turned))
    assert [OneShot(pair).augmentation(role) for role in "ab"] == [None, turned]
    assert [OneShot(pair, reverse=True).augmentation(role) for role in "ab"] == [turned, None]


def test_jitter_turns_little_and_keeps_shape_and_range():
    torch.manual_seed(0)
    flat = torch.full((3, 3, 16, 16), 0.5)
    torch.testing.assert_close(OneShotJitter()(flat), flat)
    y = torch.linspace(-1, 1, 32).view(1, 1, 32, 1).expand(200, 1, 32, 32)
    turned = OneShotJitter()(y)
    assert turned.shape == y.shape
    assert turned.abs().max() <= 1
    rise, run = turned[:, :, 16, 16] - turned[:, :, 15, 16], turned[:, :, 16, 16] - turned[:, :, 16, 15]
    angle = torch.atan2(run, rise).abs() * 180 / torch.pi
    assert angle.max() <= 7.5
    assert angle.max() > 5
    straight = OneShotJitter(degrees=0)(y)
    assert (straight - straight[..., :1]).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"sample": 10}, "sample is 10, but there are 10 test images, from 0 to 9"),
        ({"sample": -1}, "sample is -1: count the test images from 0"),
        ({"data": Handwritten()}, "data is a Handwritten, which has only the domain handwritten"),
    ],
)
def test_bad_settings_are_refused(settings, sentence):
    with pytest.raises(SettingError, match=sentence):
        trainer(max_steps=1).fit(ToyGAN(), datamodule=OneShot(**{"data": ToyPair(), **settings}))


def write_own(tmp_path, count=10):
    write_picture(tmp_path / "photo.png", 99)
    for number in range(count):
        write_flat(tmp_path / "paintings" / f"{number}.png", number)
    return str(tmp_path / "photo.png"), str(tmp_path / "paintings")


def test_own_image_and_own_folder(tmp_path):
    image, folder = write_own(tmp_path)
    data = ImageAndFolder(image, folder, image_size=8)
    assert (data.domains, data.channels) == (("photo", "paintings"), (3, 3))
    parts = {split: images(data, "b", split)[:, 0, 0, 0].tolist() for split in ("train", "val", "test")}
    assert sorted(value for part in parts.values() for value in part) == list(range(10))
    assert [len(parts[split]) for split in ("train", "val", "test")] == [8, 1, 1]
    for split in ("train", "val", "test"):
        assert images(data, "a", split).shape == (1, 3, 8, 8)
    assert data.files()["photo", "train"] == [tmp_path / "photo.png"]
    before = data.fingerprint()
    write_picture(tmp_path / "photo.png", 98, width=14)
    assert ImageAndFolder(image, folder, image_size=8).fingerprint() != before


def test_own_files_that_do_not_fit_are_refused(tmp_path):
    image, folder = write_own(tmp_path)
    with pytest.raises(UserError, match=r"image is .*paintings, which is a folder: give one image file"):
        ImageAndFolder(folder, folder)
    with pytest.raises(UserError, match=r"nothing\.png does not exist"):
        ImageAndFolder(str(tmp_path / "nothing.png"), folder)
    with pytest.raises(UserError, match="nowhere does not exist: give a folder of images"):
        ImageAndFolder(image, str(tmp_path / "nowhere"))
    (tmp_path / "photo").mkdir()
    write_flat(tmp_path / "photo" / "0.png", 0)
    with pytest.raises(UserError, match="both called photo: name the two domains"):
        ImageAndFolder(image, str(tmp_path / "photo"))
    (tmp_path / "broken.png").write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"broken\.png cannot be read"):
        ImageAndFolder(str(tmp_path / "broken.png"), folder).data("a", "train")


def test_own_image_and_folder_on_the_command_line(tmp_path, capsys):
    image, folder = write_own(tmp_path)
    words = ["--data", "ImageAndFolder", "--data.image", image, "--data.folder", folder, "--print_config"]
    with pytest.raises(SystemExit):
        main(["fit", "--config", "ost_facades", *words])
    settings = yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]
    assert (settings["image"], settings["folder"], settings["augment"]) == (image, folder, "jitter")
    assert "sample" not in settings
