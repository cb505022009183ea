"""``xdomain data check``: finds problems of image files before the training."""

import hashlib
import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm  # type: ignore[import-untyped]

from xdomain.commands.options import Parser
from xdomain.data.base import BaseDataModule, DomainPair
from xdomain.data.images import read_image
from xdomain.errors import UserError, refusal
from xdomain.pixels import ENDINGS, JUNK, LEFTOVERS, open_image, orientation, walk
from xdomain.running.folder import write_json

DESCRIPTION = """\
Look at every image file that a recipe's data would read, or at those of a folder, without training: what is there, and
what is wrong with it. In a folder, the first subfolder names the part: one that begins with train, val or test is a
split of the domain that the rest of its name tells (trainA, testB), any other is a domain. A JPEG file that is damaged
in its middle and not cut off can decode to wrong pixels without any sign; no reader finds that out."""

PROBLEMS = {
    "empty": "empty files",
    "truncated": "cut off",
    "damaged": "damaged",
    "no image": "content of no known image format",
    "mislabelled": "content of another format than the ending says",
    "too large": "more pixels than a picture has (decompression bomb)",
    "unsupported": "pixels of 32 bits, the range of which nobody knows",
    "broken link": "links to files that do not exist",
    "no permission": "not readable with the permissions of this user",
    "wrong shape": "not the width by height that this data needs",
    "tiny": "narrower or lower than 8 pixels",
    "one colour": "all pixels the same",
    "duplicate": "same content several times in one part",
    "shared by domains": "same content in several domains",
    "leak": "same content in several splits, as in training and test",
}
TINY = 8  # pixels
SHOWN = 10  # names per kind of problem
SPLIT = re.compile(r"(train|val|test)[-_]?(.*)")
MODES = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with transparency",
    "P": "palette",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "I": "32-bit",
    "F": "32-bit float",
}
DEEP = re.compile(r"\b(RGB[AX]?|LA?);16[BLN]")  # PIL's names of pixel layouts that it reduces to 8 bits
FORMATS = Image.registered_extensions()  # now, since loading them is not thread-safe

Group = tuple[str, str]
"""Domain and split; either is empty if unknown."""


class Facts(NamedTuple):
    """Facts about one file.

    Attributes:
        problem: the kind of problem that makes it unusable, or empty.
        reason: the reader's error message.
        content: digest of its bytes, empty if they cannot be read.
        size: width and height in pixels as stored, or None.
        modes: description of special pixel formats.
        one_colour: whether all pixels are the same.
        mislabelled: actual image format if the file extension says another, else empty.
    """

    problem: str = ""
    reason: str = ""
    content: str = ""
    size: tuple[int, int] | None = None
    modes: tuple[str, ...] = ()
    one_colour: bool = False
    mislabelled: str = ""


@dataclass
class Report:
    """Report on files and their problems.

    Attributes:
        groups: for every domain and split the number of files and of usable files, their sizes and pixel formats.
        problems: for every kind of problem the affected files, each with a remark; copies share an entry.
        ignored: the files that are not read, by reason.
    """

    groups: dict[Group, dict[str, Any]] = field(default_factory=dict)
    problems: dict[str, list[tuple[list[str], str]]] = field(default_factory=lambda: defaultdict(list))
    ignored: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def as_json(self) -> dict[str, Any]:
        """The same as plain types."""
        return {
            "groups": [{"domain": domain, "split": split, **facts} for (domain, split), facts in self.groups.items()],
            "problems": {
                kind: [{"files": files, "remark": remark} for files, remark in self.problems[kind]]
                for kind in PROBLEMS
                if kind in self.problems
            },
            "ignored": dict(self.ignored),
        }

    def __str__(self) -> str:
        head = ("domain", "split", "files", "usable", "smallest", "median", "largest", "sizes", "pixels")
        rows = [head, *(_row(group, facts) for group, facts in self.groups.items())]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = [
            "  ".join(f"{word:<{width}}" for word, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        for kind, words in PROBLEMS.items():
            if found := self.problems.get(kind):
                lines += ["", f"{kind} ({len(found):,}): {words}"]
                lines += [f"  {' = '.join(files)}{f': {remark}' if remark else ''}" for files, remark in found[:SHOWN]]
                lines += [f"  and {len(found) - SHOWN:,} more"] * (len(found) > SHOWN)
        for reason, files in self.ignored.items():
            more = ", ..." if len(files) > SHOWN else ""
            lines += ["", f"ignored, {reason} ({len(files):,}): {', '.join(files[:SHOWN])}{more}"]
        count = sum(map(len, self.problems.values()))
        lines += ["", f"{count:,} problem{'' if count == 1 else 's'} found" if count else "no problems found"]
        return "\n".join(lines).encode(errors="backslashreplace").decode()  # file names need not be valid text


def _row(group: Group, facts: dict[str, Any]) -> tuple[str, ...]:
    domain, split = (name or "-" for name in group)
    sizes = (f"{s[0]}x{s[1]}" if s else "-" for s in (facts[k] for k in ("smallest", "median", "largest")))
    modes = ", ".join(f"{count:,} {mode}" for mode, count in facts["modes"].items())
    return domain, split, f"{facts['files']:,}", f"{facts['usable']:,}", *sizes, f"{facts['sizes']:,}", modes or "-"


def inspect_file(path: Path) -> Facts:
    """Inspect one file by decoding it completely."""
    if path.is_symlink() and not path.exists():
        return Facts("broken link", f"points to {os.readlink(path)}")
    if not path.is_file():  # opening a pipe would wait forever
        return Facts("no image", "it is no regular file")
    try:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "blake2b").hexdigest()
    except PermissionError:
        return Facts("no permission")
    except OSError as error:
        return Facts("damaged", error.strerror or str(error))
    if path.stat().st_size == 0:
        return Facts("empty", content=content)
    try:
        with open_image(path) as image:
            size, kind, modes = image.size, image.format or "", _modes(image)
    except UnidentifiedImageError:
        return Facts("no image", content=content)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return Facts("too large", content=content)
    except Exception as error:  # decoders raise all kinds of errors on damaged files
        return Facts("damaged", str(error), content)
    try:
        pixels = read_image(path, 3).flatten(1)
    except UserError as error:
        why = error.__cause__
        return Facts(_kind_of(why), str(why), content, size, modes)
    expected = FORMATS.get(path.suffix.lower())
    mislabelled = kind if {"MPO": "JPEG", "DIB": "BMP"}.get(kind, kind) != expected else ""
    return Facts("", "", content, size, modes, bool((pixels == pixels[:, :1]).all()), mislabelled)


def _kind_of(why: BaseException | None) -> str:
    if isinstance(why, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return "too large"
    if isinstance(why, ValueError) and "32 bits" in str(why):
        return "unsupported"
    return "truncated" if "truncated" in str(why).lower() else "damaged"


def _modes(image: Image.Image) -> tuple[str, ...]:
    """Pixel format, and everything else that changes the image when it is read."""
    mode = MODES.get(image.mode, image.mode)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        mode = "16-bit grey"
    elif DEEP.search(str(getattr(image, "tile", ""))):
        mode = f"16-bit {mode}"
    rotated = orientation(image) != 1
    animated = getattr(image, "is_animated", False) and image.format != "MPO"
    return (mode, *["EXIF-rotated"] * rotated, *["animated"] * animated)


def check_files(files: dict[Group, list[Path]], aspect: float | None = None, root: Path = Path()) -> Report:
    """Inspect files and compare them with each other.

    Args:
        files: paths by domain and split.
        aspect: required ratio of width to height, to half a pixel; None allows any.
        root: folder that file names in the report are relative to, if they are inside of it.
    """
    report = Report()
    groups = [(group, path) for group, paths in files.items() for path in paths]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool, warnings.catch_warnings():
        # For all threads: the reader sets the same for every file, but threads would undo each other's setting.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        results = pool.map(inspect_file, [path for _, path in groups])
        found = list(tqdm(results, total=len(groups), desc="check", unit="file", disable=None))

    same: dict[str, list[tuple[Group, str]]] = defaultdict(list)
    members: dict[Group, list[Facts]] = {group: [] for group in files}
    for (group, path), facts in zip(groups, found, strict=True):
        name = _name(path, root)
        members[group].append(facts)
        if facts.problem:
            report.problems[facts.problem].append(([name], facts.reason))
            continue
        assert facts.size is not None
        width, height = facts.size
        same[facts.content].append((group, name))
        if facts.mislabelled:
            report.problems["mislabelled"].append(([name], f"it is {facts.mislabelled}"))
        if aspect is not None and abs(width - aspect * height) > 0.5:
            report.problems["wrong shape"].append(([name], f"it has {width}x{height} pixels"))
        if min(width, height) < TINY:
            report.problems["tiny"].append(([name], f"it has {width}x{height} pixels"))
        if facts.one_colour:
            report.problems["one colour"].append(([name], ""))
    for copies in same.values():
        if len(copies) > 1:
            domains, splits = ({group[i] for group, _ in copies} for i in range(2))
            kind = "leak" if len(splits) > 1 else "shared by domains" if len(domains) > 1 else "duplicate"
            report.problems[kind].append(([name for _, name in copies], ""))
    report.groups = {group: _summary(part) for group, part in members.items()}
    return report


def _summary(part: list[Facts]) -> dict[str, Any]:
    sizes = sorted((facts.size for facts in part if facts.size and not facts.problem), key=lambda s: (s[0] * s[1], s))
    modes = Counter(mode for facts in part for mode in facts.modes if not facts.problem)
    return {
        "files": len(part),
        "usable": len(sizes),
        "smallest": sizes[0] if sizes else None,
        "median": sizes[len(sizes) // 2] if sizes else None,
        "largest": sizes[-1] if sizes else None,
        "sizes": len(set(sizes)),
        "modes": dict(modes.most_common()),
    }


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def check_folder(folder: Path) -> Report:
    """Inspect all image files of a folder and its subfolders.

    Raises:
        UserError: if the folder does not exist or holds no image.
    """
    if not folder.is_dir():
        raise UserError(f"the folder {folder} does not exist: give a folder of images, or --config RECIPE.")
    files: dict[Group, list[Path]] = defaultdict(list)
    ignored: dict[str, list[str]] = defaultdict(list)
    for path, reason in walk(folder):
        if reason:
            ignored[reason].append(_name(path, folder))
        else:
            first = path.relative_to(folder).parts[0] if path.parent != folder else ""
            split = SPLIT.fullmatch(first)
            files[(split[2], split[1]) if split else (first, "")].append(path)
    if not files:
        raise UserError(f"the folder {folder} holds no image: files must end in one of {' '.join(ENDINGS)}.")
    report = check_files(files, root=folder)
    report.ignored = ignored
    return report


def check_data(data: BaseDataModule) -> Report | None:
    """Inspect all image files that a data module would read, and list other files in their folders.

    A data module lists its files by a method ``files() -> dict[(domain, split), list[Path]]`` and, if they must have a
    certain aspect ratio, gives width / height by an attribute ``aspect``.

    Returns:
        the report, or None for data that does not come from image files.
    """
    parts = [*data.modules.values()] if isinstance(data, DomainPair) else [data]
    files: dict[Group, list[Path]] = {}
    for part in parts:
        if (tell := getattr(part, "files", None)) is not None:
            files.update(tell())
    if not files:
        return None
    report = check_files(files, getattr(data, "aspect", None), Path.cwd())
    used = {path for paths in files.values() for path in paths}
    for folder in sorted({path.parent for path in used}):
        for path in sorted(folder.iterdir()):
            if path in used or path.is_dir():
                continue
            name = _name(path, Path.cwd())
            if JUNK.fullmatch(path.name):
                report.ignored[LEFTOVERS].append(name)
            elif path.is_symlink() and not path.exists():
                report.problems["broken link"].append(([name], f"points to {os.readlink(path)}"))
            else:
                report.ignored["not read by this data"].append(name)
    return report


def check_command(args: list[str]) -> int:
    """Run ``xdomain data check``; returns the exit status: 0, or 1 if there are problems.

    Raises:
        UserError: if there is nothing to check.
    """
    parser = Parser("xdomain data check", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("folder", metavar="DIR", nargs="?", help="a folder, with all its subfolders")
    parser.add_argument("--config", metavar="NAME", action="append", help="a recipe or, given again, an overlay")
    parser.add_argument("--json", metavar="FILE", help="write the whole report to a file")
    options = parser.parse_args(args)
    if (options.folder is None) == (options.config is None):
        raise UserError("xdomain data check needs either a folder, or a recipe by --config NAME.")
    if options.folder is not None:
        report: Report | None = check_folder(Path(options.folder))
    else:
        report = check_data(data := configured_data(options.config))
        if report is None:
            print(
                f"{type(data).__name__} is drawn or read from files of its own format: it has no image files to check"
            )
            return 0
    assert report is not None
    print(report)
    if options.json is not None:
        write_json(Path(options.json), report.as_json())
    return 1 if report.problems else 0


def configured_data(configs: Iterable[str]) -> BaseDataModule:
    """The data module of a recipe and its overlays, without its method.

    Raises:
        UserError: if they define no data, or its settings are wrong.
    """
    import yaml

    from xdomain.commands.configs import expand_configs
    from xdomain.commands.train import Parser as ConfigParser

    paths, _ = expand_configs([word for name in configs for word in ("--config", name)])
    parser = ConfigParser()
    parser.add_lightning_class_args(BaseDataModule, "data", subclass_mode=True)
    settings = None
    for path in paths[1::2]:
        if content := yaml.safe_load(Path(path).read_text(encoding="utf-8")).get("data"):
            settings = parser.parse_object({"data": content}, settings)
    if settings is None:
        raise UserError(f"{' and '.join(configs)} names no data: give a recipe that does, or a folder.")
    try:
        data: BaseDataModule = parser.instantiate_classes(settings)["data"]
    except ValueError as error:
        raise refusal(error) from error
    return data
