"""Files that are whole or not there, and never anywhere else."""

import os
import stat
from pathlib import Path

import pytest

from xdomain.errors import UserError
from xdomain.files import remove_partial, whole_file, whole_folder


def write(path, content=b"new"):
    with whole_file(Path(path)) as file:
        file.write(content)


def test_a_file_appears_whole_with_the_usual_rights(tmp_path):
    with whole_file(tmp_path / "deep" / "x") as file:
        file.write(b"1")
        assert not (tmp_path / "deep" / "x").exists()
    assert (tmp_path / "deep" / "x").read_bytes() == b"1"
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert (tmp_path / "deep" / "x").stat().st_mode == plain.stat().st_mode
    assert os.listdir(tmp_path / "deep") == ["x"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path, error):
    write(tmp_path / "x", b"old")

    def stopped():
        with whole_file(tmp_path / "x") as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        stopped()
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    """A small limit on the size of files stands in for it."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(UserError, match=r"x cannot be written: File too large\.$"):
            write(tmp_path / "x", bytes(200))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert os.listdir(tmp_path) == []


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path):
    write(tmp_path / ("x" * 255))
    assert os.listdir(tmp_path) == ["x" * 255]


def test_links_are_replaced_and_not_followed(tmp_path):
    (tmp_path / "outside").write_bytes(b"mine")
    (tmp_path / "x").symlink_to("outside")
    write(tmp_path / "x")
    assert (tmp_path / "outside").read_bytes() == b"mine"
    assert not (tmp_path / "x").is_symlink()
    assert (tmp_path / "x").read_bytes() == b"new"


def test_a_planted_link_cannot_be_hit(tmp_path, monkeypatch):
    """Not even by somebody who knows the temporary name."""
    monkeypatch.setattr("secrets.token_hex", lambda _: "known")
    (tmp_path / ".known.part").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="cannot be written: File exists"):
        write(tmp_path / "x")
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("link", [False, True])
def test_devices_pipes_and_folders_are_not_replaced(tmp_path, link):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, kind in {"pipe": "a device, pipe or socket", "folder": "a folder", "/dev/full": "a device"}.items():
        path = tmp_path / name
        if link:
            path = tmp_path / f"link-{Path(name).name}"
            path.symlink_to(tmp_path / name)
        elif name == "/dev/full" and os.access("/dev", os.W_OK):
            continue  # a mistake here would cost the device
        with pytest.raises(UserError, match=f"is {kind}.* and not replaced: give the name of a file"):
            write(path)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_folders_are_replaced_whole(tmp_path):
    for content in ("old", "new"):
        with whole_folder(tmp_path / "clip") as folder:
            (folder / content).write_text("")
            assert not (tmp_path / "clip" / content).exists()
        assert os.listdir(tmp_path / "clip") == [content]
    with pytest.raises(ValueError), whole_folder(tmp_path / "clip") as folder:  # noqa: PT011, PT012
        (folder / "half").write_text("")
        raise ValueError
    assert os.listdir(tmp_path / "clip") == ["new"]
    assert os.listdir(tmp_path) == ["clip"]
    (tmp_path / "link").symlink_to("clip")
    with pytest.raises(UserError, match="link is no folder"), whole_folder(tmp_path / "link"):
        pass


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    left, folder, own = (tmp_path / f".{number:016x}.part" for number in (1, 2, 3))
    left.write_bytes(b"half")
    (folder / "frames").mkdir(parents=True)
    own.symlink_to(tmp_path / "elsewhere")
    for name in (".x.part", "0123456789abcdef.part", ".0123456789abcdef.partial", ".0123456789ABCDEF.part"):
        (tmp_path / name).write_bytes(b"a user's")
    with whole_file(tmp_path / "x") as file, whole_folder(tmp_path / "y") as frames:
        file.write(b"1")
        (frames / "0").touch()
        remove_partial(tmp_path)  # another call into the same folder
    assert (tmp_path / "x").read_bytes() == b"1"
    assert (tmp_path / "y" / "0").exists()
    assert sorted(os.listdir(tmp_path)) == sorted(
        [own.name, ".x.part", "0123456789abcdef.part", ".0123456789abcdef.partial", ".0123456789ABCDEF.part", "x", "y"]
    )
    remove_partial(tmp_path / "absent")
