"""CelebA: its files come back exactly, in the published parts and crops; what is wrong with them is named."""

import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torchvision

from tests.fakes.celeba import aligned_image, write_attributes, write_celeba, write_columns
from xdomain.data.celeba import ATTRIBUTES, CelebA
from xdomain.errors import UserError

SMILING, EYEGLASSES = ATTRIBUTES.index("Smiling"), ATTRIBUTES.index("Eyeglasses")
COUNT = 24
PARTITION = np.array([0] * 12 + [1] * 5 + [2] * 7)
SPLITS = ("train", "val", "test")


def a_table(count=COUNT, seed=0):
    """Noise; smile and glasses run through their four combinations, so that every part holds each."""
    table = np.random.default_rng(seed).integers(0, 2, (count, 40), dtype=np.uint8)
    table[:, SMILING], table[:, EYEGLASSES] = np.arange(count) % 2, np.arange(count) // 2 % 2
    return table


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A root with all files, never changed, and what they say."""
    root, table, identities = tmp_path_factory.mktemp("root"), a_table(), np.arange(COUNT) * 7 % 11 + 1
    write_celeba(root, table, PARTITION, identities)
    return root, table, identities


def numbers(data):
    """Which images a part consists of, read from their blue channel."""
    blue = data.images[:, 2].mean((1, 2)) / 3
    assert (np.abs(blue - blue.round()) < 0.3).all()
    return blue.round().astype(int).tolist()


def celeba(root, domains="smile_glasses", **options):
    return CelebA(domains, **{"root": str(root), "image_size": 16, **options})


# ---------------------------------------------------------------- content


def test_files_come_back(written):
    root, table, identities = written
    module = celeba(root)
    assert module.domains == ("smile", "glasses")
    assert module.attribute_names == ATTRIBUTES
    assert len(ATTRIBUTES) == 40
    wanted = {
        "a": (table[:, SMILING] == 1) & (table[:, EYEGLASSES] == 0),
        "b": (table[:, SMILING] == 0) & (table[:, EYEGLASSES] == 1),
    }
    for number, split in enumerate(SPLITS):
        inside = np.flatnonzero(number == PARTITION)
        np.testing.assert_array_equal(module.table(split), table[inside])
        for role in "ab":
            data = module.data(role, split)
            expected = np.flatnonzero((number == PARTITION) & wanted[role])
            assert len(expected) > 0
            assert numbers(data) == expected.tolist()
            np.testing.assert_array_equal(inside[module.rows(role, split)], expected)
            np.testing.assert_array_equal(data.attributes, table[expected])
            np.testing.assert_array_equal(data.labels, identities[expected])
            assert data.attributes.dtype == data.images.dtype == np.uint8
            assert data.labels.dtype == np.int64
            assert data.images.shape[1:] == (3, 16, 16)


def test_default_is_128_pixels(written):
    module = CelebA({"photo": "*"}, root=str(written[0]))
    assert module.image_size == 128
    assert module.channels == (3,)
    assert module.data("a", "val").images.shape == (5, 3, 128, 128)


def test_identities_are_optional(tmp_path):
    write_celeba(tmp_path, a_table(), PARTITION)
    data = celeba(tmp_path).data("a", "train")
    assert data.labels is None
    assert data[0].label is None


def test_images_are_decoded_once_for_all_domains(written):
    root, *_ = written
    first = celeba(root).data("a", "train")
    assert isinstance(first._images, np.memmap)
    again = celeba(root, "male_female", split="first64").part("test")
    assert first._images.filename == again._images.filename


# ---------------------------------------------------------------- crops


@pytest.mark.parametrize("shrink", [1, 2])
@pytest.mark.parametrize(
    ("crop", "columns", "rows"),
    [
        ("centre178", (0, 178), (20, 198)),
        ("squash", (0, 178), (0, 218)),
        ("attgan170", (3, 173), (26, 196)),
        ("stgan148", (15, 163), (40, 188)),
        ("icgan138", (30, 168), (40, 178)),
        ((10, 20, 90, 160), (10, 90), (20, 160)),
    ],
)
def test_crops_keep_the_columns_and_rows_of_the_papers(tmp_path, shrink, crop, columns, rows):
    write_celeba(tmp_path, a_table(4), np.array([0, 0, 0, 2]), shrink=shrink)
    image = celeba(tmp_path, {"photo": "*"}, crop=crop).data("a", "test").images[0].astype(float)
    for pixels, (begin, end) in ((image[0].mean(0), columns), (image[1].mean(1), rows)):
        step = (end - begin) / 16
        centres = begin + step * (np.arange(16) + 0.5) - 0.5
        tolerance = 1.6 if shrink == 2 else 0.8  # a smaller copy is cut between whole pixels
        np.testing.assert_allclose(pixels[2:-2], centres[2:-2], atol=tolerance)


def test_wrong_crops_and_sizes(written):
    root, *_ = written
    with pytest.raises(UserError, match=r"crop is 'center178', which is none of centre178, squash, .*178x218\.$"):
        celeba(root, crop="center178")
    for box in ((0, 0, 179, 178), (-1, 0, 10, 10), (10, 0, 10, 20), (0, 30, 10, 20)):
        with pytest.raises(UserError, match=r"crop is \[.*within an image of 178x218"):
            celeba(root, crop=box)
    with pytest.raises(UserError, match="image_size is 0"):
        celeba(root, image_size=0)


# ---------------------------------------------------------------- parts


def test_the_first_64_of_each_domain_test_as_in_the_published_code(tmp_path):
    count = 640
    table = a_table(count)
    write_celeba(tmp_path, table[:1], None)  # the lists are long, but all images are one file
    write_attributes(tmp_path / "celeba/list_attr_celeba.txt", table)
    images = tmp_path / "celeba/img_align_celeba"
    for i in range(1, count):
        (images / f"{i + 1:06d}.jpg").hardlink_to(images / "000001.jpg")
    write_columns(tmp_path / "celeba/identity_CelebA.txt", np.arange(count))
    module = celeba(tmp_path, split="first64", image_size=2)
    for role, smiling, glasses in (("a", 1, 0), ("b", 0, 1)):
        chosen = np.flatnonzero((table[:, SMILING] == smiling) & (table[:, EYEGLASSES] == glasses))
        found = {split: module.data(role, split).labels.tolist() for split in SPLITS}
        assert found == {
            "test": chosen[:64].tolist(),
            "val": chosen[64:128].tolist(),
            "train": chosen[128:].tolist(),
        }
    everybody = np.concatenate([module.part(split).labels for split in SPLITS])
    assert sorted(everybody) == list(range(count))

    overlapping = celeba(tmp_path, {"all": "*", "glasses": "Eyeglasses"}, split="first64", image_size=2)
    parts = [set(overlapping.data(role, split).labels.tolist()) for split in SPLITS for role in "ab"]
    for i, one in enumerate(parts):
        assert all(not one & other for j, other in enumerate(parts) if i // 2 != j // 2)


def test_an_official_part_may_be_empty_in_a_partial_copy(tmp_path):
    write_celeba(tmp_path, a_table(8), np.zeros(8, dtype=int))
    with pytest.raises(
        UserError, match=r"none of the 8 images in .*celeba is in the test part, split: official: .*split: first64"
    ):
        celeba(tmp_path).data("a", "test")


# ---------------------------------------------------------------- partial copies and bad images


def test_missing_images_are_left_out_with_their_number(tmp_path):
    table = a_table()
    folder = write_celeba(tmp_path, table, PARTITION, np.arange(COUNT))
    gone = [0, 5, 13, 20]
    for i in gone:
        (folder / "img_align_celeba" / f"{i + 1:06d}.jpg").unlink()
    aligned_image(3).save(folder / "img_align_celeba/notes.jpg")
    (folder / "img_align_celeba/.DS_Store").write_text("no image")
    module = celeba(tmp_path, {"photo": "*"})
    with pytest.warns(UserWarning, match=r"img_align_celeba lacks 4 of the 24 images of list_attr_celeba\.txt"):
        parts = {split: module.data("a", split) for split in SPLITS}
    for number, split in enumerate(SPLITS):
        expected = [i for i in np.flatnonzero(number == PARTITION) if i not in gone]
        assert numbers(parts[split]) == expected
        assert parts[split].labels.tolist() == expected
        np.testing.assert_array_equal(parts[split].attributes, table[expected])


def test_a_whole_copy_gives_no_warning(written):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        celeba(written[0]).data("a", "test")


def test_bad_images(tmp_path):
    table = a_table()
    folder = write_celeba(tmp_path, table, PARTITION, np.arange(COUNT))
    bad = folder / "img_align_celeba/000003.jpg"
    bad.write_bytes(bad.read_bytes()[:500])
    with pytest.raises(UserError, match=r"000003\.jpg cannot be read"):
        celeba(tmp_path).data("a", "test")
    module = celeba(tmp_path, {"photo": "*"}, on_bad_file="skip")
    with pytest.warns(UserWarning, match=r"1 of the 24 images .*000003\.jpg"):
        train = module.data("a", "train")
    expected = [i for i in range(12) if i != 2]
    assert numbers(train) == train.labels.tolist() == expected
    np.testing.assert_array_equal(train.attributes, table[expected])
    assert numbers(module.data("a", "val")) == [12, 13, 14, 15, 16]


def test_images_that_are_not_aligned_are_refused(tmp_path):
    folder = write_celeba(tmp_path, a_table(4), np.zeros(4, dtype=int))
    aligned_image(0).resize((178, 178)).save(folder / "img_align_celeba/000002.jpg")
    with pytest.raises(UserError, match=r"000002\.jpg has 178x178 pixels"):
        celeba(tmp_path).data("a", "train")


# ---------------------------------------------------------------- what is missing or malformed


@pytest.mark.parametrize("name", ["list_attr_celeba.txt", "list_eval_partition.txt", "img_align_celeba"])
def test_missing_files_are_named(tmp_path, name):
    folder = write_celeba(tmp_path, a_table(4), np.zeros(4, dtype=int))
    (folder / name).rename(folder / "elsewhere")
    with pytest.raises(UserError, match=rf"^{folder}/{name} is missing: .*XDOMAIN_DATA .*celeba.*download: true\.$"):
        celeba(tmp_path).data("a", "train")


def test_a_folder_of_other_images(tmp_path):
    folder = write_celeba(tmp_path, a_table(4), np.zeros(4, dtype=int))
    images = folder / "img_align_celeba"
    images.rename(folder / "inner")
    images.mkdir()
    (folder / "inner").rename(images / "img_align_celeba")
    with pytest.raises(UserError, match=rf"^{images} holds none of the 4 images of "):
        celeba(tmp_path).data("a", "train")


def change(path, number, line):
    """Replace a line, counted from 1; None removes it."""
    lines = path.read_text().splitlines()
    lines[number - 1 : number] = [] if line is None else [line]
    path.write_text("\n".join(lines) + "\n")


ROW = " ".join(["1", "-1"] * 20)


@pytest.mark.parametrize(
    ("name", "number", "line", "sentence"),
    [
        ("list_attr_celeba.txt", 1, "four", "is malformed in line 1: it must be the number of images"),
        ("list_attr_celeba.txt", 1, "5", "announces 5 images in line 1, but lists 4"),
        ("list_attr_celeba.txt", 6, None, "announces 4 images in line 1, but lists 3"),
        ("list_attr_celeba.txt", 2, "Smiling Male", "is malformed in line 2: it must be the names of the 40 attr"),
        ("list_attr_celeba.txt", 4, "000002.jpg 1 -1", "is malformed in line 4: .* 40 times 1 or -1"),
        ("list_attr_celeba.txt", 5, f"000003.jpg {ROW} 1", "is malformed in line 5: .* 40 times 1 or -1"),
        ("list_attr_celeba.txt", 3, f"000001.jpg {ROW[:-2]}0", "is malformed in line 3: .* 40 times 1 or -1"),
        ("list_attr_celeba.txt", 4, "", "is malformed in line 4: .* 40 times 1 or -1"),
        ("list_eval_partition.txt", 2, "000002.jpg 3", "is malformed in line 2: it must be a file name and 0, 1 or 2"),
        ("list_eval_partition.txt", 2, "000002.jpg", "is malformed in line 2: it must be a file name and 0, 1 or 2"),
        ("list_eval_partition.txt", 3, None, r"does not list 000003\.jpg"),
        ("identity_CelebA.txt", 4, "000004.jpg x", "is malformed in line 4: it must be a file name and a number"),
        ("identity_CelebA.txt", 4, None, r"does not list 000004\.jpg"),
    ],
)
def test_malformed_files_are_named_with_the_line(tmp_path, name, number, line, sentence):
    folder = write_celeba(tmp_path, a_table(4), np.zeros(4, dtype=int), np.arange(4))
    change(folder / name, number, line)
    with pytest.raises(UserError, match=rf"^{folder}/{name} {sentence}") as caught:
        celeba(tmp_path).data("a", "train")
    assert "\n" not in str(caught.value)


def test_files_that_are_no_text(tmp_path):
    folder = write_celeba(tmp_path, a_table(4), np.zeros(4, dtype=int))
    for content, sentence in (
        (b"\xff\xd8\xff", r"cannot be read \(.*\): check it, or"),
        (b"", "is malformed in line 1"),
    ):
        (folder / "list_attr_celeba.txt").write_bytes(content)
        with pytest.raises(UserError, match=rf"^{folder}/list_attr_celeba\.txt {sentence}"):
            celeba(tmp_path).data("a", "train")


# ---------------------------------------------------------------- download


def test_a_download_lands_in_the_official_places_once_and_changes_nothing_that_is_there(tmp_path, monkeypatch):
    calls = []

    def official(root, download):
        calls.append(root)
        folder = write_celeba(Path(root), a_table(), PARTITION, np.arange(COUNT))
        (folder / "img_align_celeba.zip").write_bytes(b"large")

    monkeypatch.setattr(torchvision.datasets, "CelebA", official)
    folder = tmp_path / "celeba"
    folder.mkdir()
    mine = "".join(f"{i + 1:06d}.jpg {i % 3}\n" for i in range(COUNT))
    (folder / "list_eval_partition.txt").write_text(mine)
    lengths = []
    threads = [
        threading.Thread(
            target=lambda: lengths.append(len(celeba(tmp_path, {"photo": "*"}, download=True).data("a", "test")))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lengths == [8, 8]
    assert len(calls) == 1
    assert (folder / "list_eval_partition.txt").read_text() == mine
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        "identity_CelebA.txt",
        "img_align_celeba",
        "list_attr_celeba.txt",
        "list_eval_partition.txt",
    ]
    assert not list(folder.glob(".download-*"))


class QuotaError(Exception):
    """What gdown raises is neither an OSError nor a RuntimeError."""


@pytest.mark.parametrize("error", [RuntimeError("'gdown' is required.\nInstall it"), QuotaError("too many\nusers")])
def test_a_failed_download_is_one_sentence(tmp_path, monkeypatch, error):
    def failing(root, download):
        raise error

    monkeypatch.setattr(torchvision.datasets, "CelebA", failing)
    with pytest.raises(
        UserError, match=rf"^the download into {tmp_path}/celeba failed \({' '.join(str(error).split())}\): [^\n]*$"
    ):
        celeba(tmp_path, download=True).data("a", "test")


def test_nothing_is_fetched_where_the_files_are(written, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "CelebA", lambda *a, **k: pytest.fail("went to the network"))
    assert len(celeba(written[0], download=True).data("a", "train")) == 3


# ---------------------------------------------------------------- files


def test_files_by_domain_and_part(written):
    root, table, _ = written
    files = celeba(root, {"smile": "Smiling", "glasses": "Eyeglasses"}).files()
    assert {domain for domain, _ in files} == {"smile", "glasses", "smile+glasses"}
    for (domain, split), paths in files.items():
        rows = [int(path.stem) - 1 for path in paths]
        assert all(path.is_file() for path in paths)
        assert (PARTITION[rows] == SPLITS.index(split)).all()
        assert (table[rows, SMILING] == ("smile" in domain)).all()
        assert (table[rows, EYEGLASSES] == ("glasses" in domain)).all()
    assert sum(map(len, files.values())) == (table[:, SMILING] | table[:, EYEGLASSES]).sum()
