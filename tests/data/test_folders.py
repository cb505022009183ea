import csv
import itertools

import numpy as np
import pytest
import torch

from tests.fakes.folders import write_flat, write_layout, write_picture
from xdomain.callbacks.reading import has_training_part
from xdomain.data import Avatars, ImagePair, ResizeCropFlip
from xdomain.data.folders import LabelledFolders, UnpairedFolders
from xdomain.data.images import read_image
from xdomain.errors import UserError

SPLITS = ("train", "val", "test")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of this test's own."""
    monkeypatch.setenv("XDOMAIN_CACHE", str(tmp_path / "cache"))


def unpaired(**options):
    return UnpairedFolders(**{"image_size": 8, "channels": 1, **options})


def labelled(path, **options):
    return LabelledFolders(str(path), **{"image_size": 8, "channels": 1, **options})


def values(module, role, split):
    """Flat images tell by their value which file they come from."""
    images = module.data(role, split).images
    assert images.shape[1:] == (1, 8, 8)
    assert (images == images[:, :, :1, :1]).all()
    return images[:, 0, 0, 0].tolist()


def write_manifest(path, *rows, columns="path,domain,split"):
    path.write_text("\n".join([columns, *rows]) + "\n")
    return str(path)


# ---------------------------------------------------------------- two folders


def test_layout_with_all_parts(tmp_path):
    write_layout(tmp_path, trainA=5, trainB=3, valA=2, valB=2, testA=1, testB=4)
    module = unpaired(path=str(tmp_path))
    assert module.domains == ("A", "B")
    assert sorted(values(module, "a", "train")) == [0, 1, 2, 3, 4]
    assert sorted(values(module, "b", "train")) == [5, 6, 7]
    assert [values(module, role, split) for split in ("val", "test") for role in "ab"] == [
        [8, 9],
        [10, 11],
        [12],
        [13, 14, 15, 16],
    ]
    assert module.data("a", "val").labels is None


def test_missing_parts_are_taken_out_of_train(tmp_path):
    write_layout(tmp_path, trainA=40, trainB=20, testA=1, testB=1)
    modules = [unpaired(path=str(tmp_path), val_share=0.25) for _ in range(2)]
    found = [{(r, s): values(module, r, s) for r in "ab" for s in SPLITS} for module in modules]
    assert found[0] == found[1]
    assert {key: len(part) for key, part in found[0].items()} == {
        ("a", "train"): 30,
        ("a", "val"): 10,
        ("a", "test"): 1,
        ("b", "train"): 15,
        ("b", "val"): 5,
        ("b", "test"): 1,
    }
    assert sorted(found[0]["a", "train"] + found[0]["a", "val"]) == list(range(40))
    assert found[0]["a", "val"] == sorted(found[0]["a", "val"])
    assert found[0]["a", "val"] != list(range(10))
    assert found[0]["a", "train"] != sorted(found[0]["a", "train"])
    limited = unpaired(path=str(tmp_path), val_share=0.25, limit=4)
    assert values(limited, "a", "train") == found[0]["a", "train"][:4]
    assert len(values(limited, "a", "val")) == 10


@pytest.mark.parametrize("listed", [False, True])
def test_images_to_test_with_alone(tmp_path, listed):
    write_layout(tmp_path / "x", testA=2, testB=3)
    rows = [f"x/{path.parent.name}/{path.name},{path.parent.name[-1]},test" for path in sorted(tmp_path.rglob("*.png"))]
    where = {"manifest": write_manifest(tmp_path / "m.csv", *rows)} if listed else {"path": str(tmp_path / "x")}
    module = unpaired(**where, limit=1)
    assert [values(module, role, "test") for role in "ab"] == [[0, 1], [2, 3, 4]]
    assert module.fingerprint() == unpaired(**where).fingerprint()
    with pytest.raises(UserError, match="holds no train images of the domain B: add some"):
        module.data("b", "train")
    with pytest.warns(UserWarning, match="the probes needs training images and is left out: .* holds no train images"):
        assert not has_training_part(module, "the probes")


def test_any_two_folders(tmp_path):
    write_layout(tmp_path, horses=10, zebras=20)
    module = unpaired(a=str(tmp_path / "horses"), b=str(tmp_path / "zebras"), test_share=0.2)
    assert module.domains == ("horses", "zebras")
    assert [len(values(module, "a", split)) for split in SPLITS] == [7, 1, 2]
    parts = [values(module, "b", split) for split in SPLITS]
    assert [len(part) for part in parts] == [14, 2, 4]
    assert sorted(itertools.chain(*parts)) == list(range(10, 30))


def test_domains_can_be_named(tmp_path):
    write_layout(tmp_path, **{"x/data": 3, "y/data": 3})
    folders = {"a": str(tmp_path / "x/data"), "b": str(tmp_path / "y/data")}
    module = unpaired(**folders, domains=["horse", "zebra"])
    assert module.domains == ("horse", "zebra")
    assert module.role_of("zebra") == "b"
    with pytest.raises(UserError, match="have the same name: name the two domains"):
        unpaired(**folders)


def test_subfolders_are_read_and_junk_is_not(tmp_path):
    write_layout(tmp_path, **{"trainA": 2, "trainA/deep/er": 2, "trainB": 3, "testA": 1, "testB": 1})
    (tmp_path / "trainA" / "._000.png").write_bytes(b"junk")
    (tmp_path / "trainA" / "Thumbs.db").write_bytes(b"junk")
    module = unpaired(path=str(tmp_path))
    assert sorted(values(module, "a", "train") + values(module, "a", "val")) == [0, 1, 2, 3]


def test_files_are_those_that_are_read(tmp_path):
    write_layout(tmp_path, trainA=9, trainB=9)
    module = unpaired(path=str(tmp_path), limit=3)
    files = module.files()
    assert set(files) == {(domain, split) for domain in "AB" for split in SPLITS}
    for (domain, split), paths in files.items():
        expected = [int(read_image(path, 1)[0, 0, 0]) for path in paths]
        assert values(module, module.role_of(domain), split) == expected
    assert len(files["A", "train"]) == 3


def test_channels_and_crop(tmp_path):
    for folder in ("trainA", "trainB", "valA", "valB", "testA", "testB"):
        pixels = write_picture(tmp_path / folder / "x.png", 0, width=12, height=8)
    centre = unpaired(path=str(tmp_path), channels=[3, 1])
    assert centre.channels == (3, 1)
    np.testing.assert_array_equal(centre.data("a", "train").images[0], pixels[:, 2:10].transpose(2, 0, 1))
    assert centre.data("b", "train").images.shape == (1, 1, 8, 8)
    squashed = unpaired(path=str(tmp_path), channels=3, fit="stretch")
    assert (squashed.data("a", "train").images != centre.data("a", "train").images).any()
    expected = pixels.mean((0, 1))
    np.testing.assert_allclose(squashed.data("a", "train").images[0].mean((1, 2)), expected, atol=2.0)


@pytest.mark.parametrize(("width", "height"), [(12, 8), (5, 12), (9, 9), (40, 1)])
def test_padding_keeps_the_whole_image_and_its_aspect_ratio(tmp_path, width, height):
    for folder in ("trainA", "trainB", "valA", "valB", "testA", "testB"):
        pixels = write_picture(tmp_path / folder / "x.png", 0, width, height)
    module = unpaired(path=str(tmp_path), image_size=max(width, height), channels=3, fit="pad")
    image = module.data("a", "train").images[0]
    missing = [max(width, height) - side for side in (height, width)]
    expected = np.pad(pixels, [*((n // 2, n - n // 2) for n in missing), (0, 0)], mode="edge")
    np.testing.assert_array_equal(image, expected.transpose(2, 0, 1))
    assert unpaired(path=str(tmp_path), image_size=6, fit="pad").data("a", "train").images.shape == (1, 1, 6, 6)


def test_a_part_of_one_domain_alone(tmp_path):
    """What the other lacks is taken out of its own training images."""
    write_layout(tmp_path, trainA=4, trainB=10, testA=3, valB=2)
    module = unpaired(path=str(tmp_path))
    counts = {domain: [len(module.files()[domain, split]) for split in SPLITS] for domain in "AB"}
    assert counts == {"A": [3, 1, 3], "B": [9, 2, 1]}
    assert sorted(values(module, "a", "test")) == [14, 15, 16]
    assert {*values(module, "b", "test")} < {*range(4, 14)}


@pytest.mark.parametrize("name", ["../../../evil", "/evil", "a\\b", "..", "", " ", "a\nb", "x" * 101, "\udcff"])
def test_names_of_domains_that_would_lead_elsewhere(tmp_path, name):
    write_layout(tmp_path, trainA=3, trainB=3)
    with pytest.raises(UserError, match=r"^the domain name '.*' cannot be part of a file name: give one of letters"):
        unpaired(path=str(tmp_path), domains=[name, "B"])
    with pytest.raises(UserError, match="cannot be part of a file name"):
        Avatars({name: "*"})
    with pytest.raises(UserError, match="cannot be part of a file name"):
        ImagePair("scikit-image:coffee", "scikit-image:coins", names=(name or ".", "b"))


def test_jitter_crops_and_mirrors_in_place_of_flip(tmp_path):
    write_layout(tmp_path, trainA=4, trainB=4)
    assert isinstance(unpaired(path=str(tmp_path), jitter=True).augmentation("b"), ResizeCropFlip)
    assert unpaired(path=str(tmp_path)).augmentation("a") is None
    with pytest.raises(UserError, match="flip is true, but jitter mirrors already"):
        unpaired(path=str(tmp_path), jitter=True, flip=True)


def test_flip_mirrors_some_training_images(tmp_path):
    write_layout(tmp_path, trainA=3, trainB=3)
    images = torch.rand(64, 3, 4, 4)
    assert unpaired(path=str(tmp_path)).augmentation("a") is None
    flipped = unpaired(path=str(tmp_path), flip=True).augmentation("a")(images)
    same, mirrored = ((flipped == x).all((1, 2, 3)) for x in (images, images.flip(-1)))
    assert (same ^ mirrored).all()
    assert 0 < mirrored.sum() < 64


def test_bad_files_stop_or_are_skipped(tmp_path):
    write_layout(tmp_path, trainA=5, trainB=2, valA=1, valB=1, testA=1, testB=1)
    (tmp_path / "trainA" / "002.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"trainA/002\.png cannot be read .*it is empty"):
        unpaired(path=str(tmp_path)).data("a", "train")
    module = unpaired(path=str(tmp_path), on_bad_file="skip")
    with pytest.warns(UserWarning, match=r"1 of the 5 .*trainA/002\.png"):
        assert sorted(values(module, "a", "train")) == [0, 1, 3, 4]
    (tmp_path / "testB" / "000.png").write_bytes(b"")
    with (
        pytest.raises(UserError, match="none of the 1 images of B-test"),
        pytest.warns(UserWarning, match="1 of the 1"),
    ):
        unpaired(path=str(tmp_path), on_bad_file="skip").data("b", "test")


# ---------------------------------------------------------------- a manifest


@pytest.fixture
def flat(tmp_path):
    """Images x/0.png to x/9.png of the values 0 to 9."""
    for i in range(10):
        write_flat(tmp_path / "x" / f"{i}.png", i)
    return tmp_path


def test_manifest(flat):
    rows = ["x/3.png,cat,train", "x/1.png,cat,train", "x/0.png,dog,test", "x/2.png,cat,val", "x/4.png,dog,val"]
    rows += ["x/5.png,dog,train", "x/6.png,cat,test"]
    module = unpaired(manifest=write_manifest(flat / "m.csv", *rows))
    assert module.domains == ("cat", "dog")
    assert sorted(values(module, "a", "train")) == [1, 3]
    assert [values(module, r, s) for r, s in (("a", "val"), ("a", "test"), ("b", "train"))] == [[2], [6], [5]]
    assert module.class_names == ()
    turned = unpaired(manifest=str(flat / "m.csv"), domains=["dog", "cat"])
    assert values(turned, "a", "test") == [0]
    other = flat / "other.csv"
    with other.open("w", newline="", encoding="utf-8-sig") as file:  # as a spreadsheet writes it
        csv.writer(file).writerows(
            [["split", "path", "note", "domain"], *([r[12:], r[:7], "a,b", r[8:11]] for r in rows)]
        )
    assert values(unpaired(manifest=str(other)), "b", "test") == [0]


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (["b", "a", "b", "c"], ("a", "b", "c"), [1, 0, 1, 2]),
        (["2", "0", "2", "10"], tuple(map(str, range(11))), [2, 0, 2, 10]),
    ],
)
def test_labels_of_a_manifest(flat, labels, names, numbers):
    rows = [f"x/{i}.png,{'ab'[i // 2]},train,{label}" for i, label in enumerate(labels)]
    rows += [f"x/{4 + i}.png,{'ab'[i // 2]},{('val', 'test')[i % 2]},{labels[0]}" for i in range(4)]
    module = unpaired(manifest=write_manifest(flat / "m.csv", *rows, columns="path,domain,split,label"))
    assert module.class_names == names
    for role in "ab":
        data = module.data(role, "train")
        assert data.labels.dtype == np.int64
        assert [numbers[value] for value in data.images[:, 0, 0, 0]] == data.labels.tolist()


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (["x/0.png,a,train", "x/1.png,b,train", "x/99.png,b,val"], r"line 4: the file .*x/99\.png does not exist"),
        (["x/0.png,a,train", "x/1.png,b,training"], r"line 3: unknown split 'training', expected train, val or test"),
        (["x/0.png,a,train", "x/1.png,b"], r"line 3: the column split is empty"),
        (["x/0.png,a,train", "x/1.png,a,val"], r"has 1 domain\(s\), a: there must be two"),
        (["x/0.png,a,train", "x/1.png,b,train", "x/0.png,a,test"], r"line 4: x/0\.png stands in line 2 already"),
        (["x/0.png,a,train", "x/1.png,b,val"], r"no training images of the domain b"),
        (["x/0.png,a,train", "x/1.png,b,train"], r"the domain a in .* has only 1 training images, too few"),
        ([], r"names no images"),
    ],
)
def test_wrong_manifests(flat, rows, text):
    with pytest.raises(UserError, match=text):
        unpaired(manifest=write_manifest(flat / "m.csv", *rows))


def test_more_wrong_manifests(flat):
    path = flat / "m.csv"
    with pytest.raises(UserError, match=r"m\.csv has no column domain: its first line must name path, domain, split"):
        unpaired(manifest=write_manifest(path, "x/0.png,train", columns="path,split"))
    rows = ["x/0.png,a,train", "x/1.png,b,train"]
    with pytest.raises(UserError, match=r"line 3: unknown domain 'b', expected a or c"):
        unpaired(manifest=write_manifest(path, *rows), domains=["a", "c"])
    with pytest.raises(UserError, match="labels some of its images only"):
        unpaired(
            manifest=write_manifest(path, "x/0.png,a,train,1", "x/1.png,b,train,", columns="path,domain,split,label")
        )
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"m\.csv cannot be read as CSV"):
        unpaired(manifest=str(path))
    with pytest.raises(UserError, match=r"absent\.csv does not exist"):
        unpaired(manifest=str(flat / "absent.csv"))


# ---------------------------------------------------------------- bad settings


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "UnpairedFolders: a is missing: give two folders of images by a and b, or one folder by path, or a man"),
        ({"a": "x"}, "UnpairedFolders: b is missing: give two folders"),
        ({"b": "x"}, "UnpairedFolders: a is missing: give two folders"),
        ({"path": "x", "manifest": "y"}, "either path"),
        ({"path": "x", "b": "y"}, "either path"),
        ({"path": "absent"}, "the folder absent does not exist"),
        ({"path": "all", "channels": 2}, "channels is 2: give 1 for grey or 3 for RGB"),
        ({"path": "all", "channels": [3, 3, 3]}, r"channels is \[3, 3, 3\]"),
        ({"path": "all", "domains": ["x", "x"]}, "give two different names"),
        ({"path": "all", "domains": ["x"]}, "give two different names"),
        ({"path": "all", "image_size": 0}, "image_size is 0"),
        ({"path": "all", "limit": 0}, "limit is 0"),
        ({"path": "all", "val_share": 0.0}, "val_share is 0"),
        ({"path": "all", "val_share": 0.6, "test_share": 0.5}, "their sum is 1.1"),
        ({"path": "half"}, "half holds no folder trainB"),
        ({"path": "empty"}, "the folder empty/trainA holds no image"),
        ({"path": "few"}, "the domain A in few has only 2 training images, too few"),
        ({"a": "all/trainA", "b": "absent"}, "the folder absent does not exist"),
    ],
)
def test_wrong_settings(tmp_path, options, text):
    write_layout(tmp_path / "all", trainA=3, trainB=3)
    write_layout(tmp_path / "half", trainA=3)
    write_layout(tmp_path / "uneven", trainA=3, trainB=3, testA=1)
    write_layout(tmp_path / "few", trainA=2, trainB=3)
    for side in "AB":
        (tmp_path / "empty" / f"train{side}").mkdir(parents=True)
    with pytest.raises(UserError, match=text):  # the current folder is tmp_path
        unpaired(**options)


# ---------------------------------------------------------------- classes


def test_class_folders_with_parts(tmp_path):
    write_layout(
        tmp_path, **{"train/dog": 3, "train/cat": 2, "val/cat": 1, "test/dog": 1, "test/cat": 1, "train/.x": 1}
    )
    module = labelled(tmp_path, domain="pets")
    assert (module.domains, module.channels, module.class_names) == (("pets",), (1,), ("cat", "dog"))
    train = module.data("a", "train")
    assert dict(zip(train.images[:, 0, 0, 0].tolist(), train.labels.tolist(), strict=True)) == {
        0: 1,
        1: 1,
        2: 1,
        3: 0,
        4: 0,
    }
    assert (values(module, "a", "val"), module.data("a", "val").labels.tolist()) == ([5], [0])
    assert (values(module, "a", "test"), module.data("a", "test").labels.tolist()) == ([7, 6], [0, 1])
    assert labelled(tmp_path).domains == (tmp_path.name,)


def test_class_folders_are_split(tmp_path):
    write_layout(tmp_path / "pets", cat=20, dog=10)
    module = labelled(tmp_path / "pets", val_share=0.2, test_share=0.1)
    found = {split: values(module, "a", split) for split in SPLITS}
    assert sorted(itertools.chain(*found.values())) == list(range(30))
    labels = {split: module.data("a", split).labels for split in SPLITS}
    assert {split: np.bincount(part).tolist() for split, part in labels.items()} == {
        "train": [14, 7],
        "val": [4, 2],
        "test": [2, 1],
    }
    for split in SPLITS:
        assert labels[split].tolist() == [int(value >= 20) for value in found[split]]
    limited = labelled(tmp_path / "pets", val_share=0.2, test_share=0.1, limit=8)
    assert set(limited.data("a", "train").labels.tolist()) == {0, 1}
    without = labelled(tmp_path / "pets", exclude_classes=[1]).data("a", "train")
    assert set(without.labels.tolist()) == {0}


def test_bad_files_keep_labels_in_step(tmp_path):
    write_layout(tmp_path, **{"train/cat": 3, "train/dog": 3, "val/cat": 1, "test/cat": 1})
    (tmp_path / "train/cat/001.png").write_bytes(b"x")
    with pytest.warns(UserWarning, match="1 of the 6"):
        data = labelled(tmp_path, on_bad_file="skip").data("a", "train")
    assert sorted(zip(data.images[:, 0, 0, 0].tolist(), data.labels.tolist(), strict=True)) == [
        (0, 0),
        (2, 0),
        (3, 1),
        (4, 1),
        (5, 1),
    ]


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        ({"cat": 3}, "holds only the folder cat: every class needs"),
        ({}, "holds no folders: every class needs"),
        ({"train/cat": 3, "train/dog": 3, "val/bird": 1}, "the class bird in .*val is not in .*train"),
        ({"cat": 3, "dog": 2}, "the class dog in .* has only 2 training images, too few"),
    ],
)
def test_wrong_class_folders(tmp_path, layout, text):
    write_layout(tmp_path / "x", **layout)
    (tmp_path / "x").mkdir(exist_ok=True)
    with pytest.raises(UserError, match=text):
        labelled(tmp_path / "x")


def test_more_wrong_class_folders(tmp_path):
    with pytest.raises(UserError, match="absent does not exist: give one that holds a folder for every class"):
        labelled("absent")
    write_layout(tmp_path, **{"x/train/cat": 3, "x/train/dog": 3})
    (tmp_path / "x/val").mkdir()
    with pytest.raises(UserError, match="x/val holds no class folder"):
        labelled(tmp_path / "x")
    (tmp_path / "x/val").rmdir()
    (tmp_path / "x/train/bird").mkdir()
    with pytest.raises(UserError, match="x/train/bird holds no image"):
        labelled(tmp_path / "x")
    with pytest.raises(UserError, match="channels is 4"):
        labelled(tmp_path / "x", channels=4)
