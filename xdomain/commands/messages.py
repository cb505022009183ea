"""Messages on the screen: one sentence out of a parser's nested report, and no advertising.

jsonargparse reports a bad value as a tree: all alternative types, all levels of nested classes. The parser of the
innermost class knows best what is wrong. It leaves its finding between marks in its message, and every parser around
it adds the key under which it met that message.
"""

import argparse
import errno
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from xdomain.errors import choice, did_you_mean

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FINDING = re.compile(r"⟦(.*?)¦(.*?)⟧")
NOISY = ("utilities.rank_zero", "trainer.connectors.checkpoint_connector")  # loggers of Lightning
TYPES = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "str": "text",
    "NoneType": "null",
    "dict": "a mapping",
}

# What jsonargparse writes; the tests fail where a new version words it differently.
KEY = re.compile(r'Parser key "([\w.]+)"|argument --([\w.]+?)(?:\.help)?:')
UNKNOWN_KEY = re.compile(r"(?:Group '([\w.]+)' does not accept o|does not accept o|O)ption '([^']+)'")
UNKNOWN_WORD = re.compile(r"unrecognized arguments: (\S+)")
UNKNOWN_CLASS = re.compile(r"Expected a dot import path string: (\S+)")
CLASS_PATH = re.compile(r"class_path[ =]'([\w.]+)'")
ABSENT = re.compile(r"No module named '([\w.]+)'|has no attribute '(\w+)'")
BROKEN_CLASS = re.compile(r"Problem with given class_path '([\w.]+)':\s+(.+)")
NO_CLASS = re.compile(r"Import path (.*)does not correspond to a subclass|Not a valid subclass of")
NO_FACTORY = re.compile(r"Expected '([\w.]+)' to be a function that returns <class '(\w+)'>")
MISSING = re.compile(r"the following arguments are required: (.+)")
COMMAND = re.compile(r"^(fit|validate|test|predict)\.")
EXPECTED = re.compile(r"Expected an? (?!path\b)(.+?)(?:\. Got value: .*)?$", re.MULTILINE)
VALUE = re.compile(r"(?:Got|Given) value: (.*)")


def mark(key: str, what: str) -> str:
    """Mark a finding so that the outer parsers recognise it."""
    return f"⟦{key}¦{what}⟧"


def explain(parser: argparse.ArgumentParser, message: str) -> tuple[str, str]:
    """The finding in a parser's message.

    Args:
        parser: the parser that reports.
        message: its report, which may contain the finding of an inner parser.

    Returns:
        the key, empty if there is none, and what is wrong with it; together they form a sentence.
    """
    outer = KEY.match(message)
    key = (outer[1] or outer[2]) if outer else ""
    if finding := FINDING.search(message):
        return ".init_args.".join(filter(None, (key, finding[1]))), finding[2]
    if unknown := UNKNOWN_KEY.search(message):
        return _unknown_key(parser, ".".join(filter(None, unknown.groups())))
    if unknown := UNKNOWN_WORD.search(message):
        word = unknown[1].partition("=")[0]
        if not word.startswith("--"):
            return word, "is no setting: a setting is written --KEY VALUE."
        return _unknown_key(parser, word[2:])
    if bad := _unknown_class(message):
        if not key:
            return bad, "is no known class: `xdomain list` shows methods and data."
        return key, f"is {bad}, which is no class that fits there{_nearest_class(parser, key, bad)}"
    if broken := BROKEN_CLASS.search(message):
        return key, f"is {broken[1]}, which cannot be used: {broken[2].rstrip('.')}."
    if function := NO_FACTORY.search(message):
        return key, f"is {function[1]}, which is no class that fits there: give a class of {function[2]}."
    if missing := MISSING.search(message):
        keys = missing[1].split(", ")
        top = COMMAND.match(keys[0])  # nothing is given, such as for an overlay without a recipe
        names = " and ".join(COMMAND.sub("", key) for key in keys)
        return names, f"must be given{': add --config RECIPE' if top else ''}."
    if expected := EXPECTED.findall(message):
        value = VALUE.search(message)
        given = value[1].strip() if value else ""
        fault = "has no value" if given in ("", "None") else f"is {given!r}"
        return key, f"{fault}: give {choice(word for kind in expected for word in _kinds(kind))}."
    text = re.sub(r"\s+", " ", message.removeprefix(outer[0]) if outer else message).strip(": ")
    return key, f"is refused: {text}" if key else text


def _unknown_key(parser: argparse.ArgumentParser, key: str) -> tuple[str, str]:
    known = {action.dest for inner in _with_commands(parser) for action in inner._actions} - {"help"}
    known = {name for name in known if not name.endswith(".help")}
    inside = not any("." in name for name in known)  # the parser of one class: few settings, all can be listed
    word = key.rsplit(".", 1)[-1] if inside else key
    otherwise = f": there are {', '.join(sorted(known))}." if inside and known else ""
    return key, f"is no setting{did_you_mean(word, known, otherwise)}"


def _with_commands(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    commands = [a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return [parser, *(inner for choices in commands for inner in choices.values())]


def _unknown_class(message: str) -> str | None:
    if unknown := UNKNOWN_CLASS.search(message):
        return unknown[1]
    path, absent = CLASS_PATH.search(message), ABSENT.search(message)
    if path and absent and (absent[1] or absent[2]) in path[1]:  # not a module that the class itself imports
        return path[1]
    if (wrong := NO_CLASS.search(message)) and (value := VALUE.search(message)):
        return (wrong[1] or value[1]).strip()
    return None


def _nearest_class(parser: argparse.ArgumentParser, key: str, name: str) -> str:
    """The nearest of the classes that an argument accepts, or else all of this package's."""
    actions = [action for inner in _with_commands(parser) for action in inner._actions if action.dest == key]
    known_classes = getattr(actions[0], "extra_help", str)() if actions else ""
    paths = re.findall(r"[\w.]+\.\w+", known_classes)
    own = sorted({path.rsplit(".", 1)[-1] for path in paths[1:] if path.startswith("xdomain.")})  # after the base
    known = dict.fromkeys([*own, *(path.rsplit(".", 1)[-1] for path in paths)])
    return did_you_mean(name.rsplit(".", 1)[-1], known, f": choose one of {', '.join(own)}." if own else "")


def _kinds(expected: str) -> list[str]:
    """A type in plain words; all values for a Literal."""
    if literal := re.fullmatch(r"typing\.Literal\[(.*)\]", expected):
        return [word.strip("' ") for word in literal[1].split(",")]
    name = expected.removeprefix("<class '").removesuffix("'>")
    return [TYPES.get(name, name)]


# Failures outside of this package, by the messages of the libraries that detect them; the tests provoke what they can.
MEMORY = "the memory is used up: give a smaller batch_size, eval_batch_size or num_workers."
FAILURES = (
    (r"can't allocate memory|not enough memory|Unable to allocate|CUDA out of memory|std::bad_alloc", MEMORY),
    (r"could not create a (?:primitive|memory)", f"oneDNN could not begin an operation, most likely since {MEMORY}"),
    (r"Cannot allocate memory|shared memory|\(shm\)", f"the system has no memory left for another process: {MEMORY}"),
    (
        r"DataLoader worker \(pid\(?s?\)? ?[\d, ]+\)",
        "a process that loads the data was killed, most often for want of memory: give fewer num_workers or a smaller "
        "batch_size, and go on with --ckpt_path.",
    ),
    (
        r"gloo|ProcessGroup|NCCL|TCPStore|[Cc]onnection (?:closed|reset) by peer|DistBackend|DistNetwork",
        "another process of this training has ended, so that this one ends too: see what it said, and go on with "
        "--ckpt_path.",
    ),
    (
        r"Error\(s\) in loading state_dict for (\w+)",
        "the checkpoint does not fit this {0}: it belongs to another recipe or to other settings of the networks.",
    ),
    (
        r"Early stopping conditioned on metric `(.+?)` which is not available.*any of the following: (.*)$",
        "EarlyStopping watches {0}, which is not there: choose one of {1}.",
    ),
    (
        r"`val_check_interval` \((\d+)\) must be less than or equal to the number of the training batches \((\d+)\)",
        "trainer.val_check_interval is {0}, but an epoch has {1} batches: give at most {1}, or count over all epochs "
        "with trainer.check_val_every_n_epoch null.",
    ),
    (
        r"You set `--ntasks=(\d+)` in your SLURM",
        "SLURM_NTASKS is {0}: start the training with `srun --ntasks-per-node={0}`, or unset SLURM_NTASKS to train in "
        "one process.",
    ),
    (
        r"You set `(devices|num_nodes)=(\d+)` in Lightning, but the number of .+?`--(\S+?)=(\d+)`",
        "trainer.{0} is {1}, but SLURM runs with --{2}={3}: make both the same.",
    ),
)


def failure(error: BaseException) -> str | None:
    """One sentence about a failure that is not a bug: of the machine, or refused by a library.

    Args:
        error: the exception.

    Returns:
        the sentence, or None for other errors.
    """
    if isinstance(error, OSError) and (error.filename or error.errno in FULL):
        place = f"{error.filename} cannot be written or read" if error.filename else "writing failed"
        way = ": make room, and go on with --ckpt_path" if error.errno in FULL else ""
        return f"{place} ({error.strerror}){way}."
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return MEMORY
    for pattern, sentence in FAILURES:
        if (found := re.search(pattern, text)) and isinstance(error, (RuntimeError, ValueError, OSError)):
            return sentence.format(*(group or "what is measured" for group in found.groups()))
    return None


@contextmanager
def quiet() -> Iterator[None]:
    """Hide Lightning's messages that appear in every run and that users of this package cannot act on."""

    def matters(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(("💡 Tip", "`weights_only` was not set"))

    loggers = [logging.getLogger(f"pytorch_lightning.{name}") for name in NOISY]
    for logger in loggers:
        logger.addFilter(matters)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            # Not for methods whose first batches train only some of the networks: schedules count batches.
            warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler.step", UserWarning)
            # Only affects the progress bar: batches are counted over all epochs, and few images make short ones.
            warnings.filterwarnings("ignore", r"The number of training batches \(\d+\) is smaller than the logging")
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(matters)
