"""A trained method as one program: images to translations, in a file for ONNX runtimes or for torch alone."""

import importlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from xdomain import __version__
from xdomain.batch import to_float
from xdomain.data.images import read_image
from xdomain.data.single import PHOTOGRAPHS
from xdomain.errors import UserError, choice, refuse
from xdomain.files import whole_file
from xdomain.inference.device import enough_memory
from xdomain.inference.places import PathLike
from xdomain.inference.program import SAMPLE, TASKS
from xdomain.inference.sampler_export import Sampler
from xdomain.inference.sizes import square
from xdomain.inference.tasks import chosen, no_translation, of_images
from xdomain.inference.tasks import parameters as arguments
from xdomain.inference.torch_program import FACTS, loaded, quiet
from xdomain.methods import Method, PyramidMethod
from xdomain.methods.content import ContentMethod
from xdomain.methods.editor import AttributeEditor
from xdomain.methods.translation import TranslationMethod
from xdomain.pixels import found_images
from xdomain.running.outputs import check_new

Format = Literal["onnx", "pt2"]
MOST_DIFFERENCE = 1e-4
"""Largest difference from the method, of values in [-1, 1], with which a program is kept."""
BATCHES = (1, 4, 9)
"""Numbers of images with which program and method are compared."""
OPSET = 18
"""Of ONNX: what most runtimes know."""
LARGEST_ONNX = 2**31 - 1
"""Bytes of one message of protobuf."""


class Exported(NamedTuple):
    """A written program.

    Attributes:
        file: the file.
        difference: largest difference from what the method itself makes, of values in [-1, 1].
        size: height and width of the images; 0 takes any multiples of the stride.
        stride: of the sides, or 0.
        inputs: names of its inputs.
        samples: height and width of the samples of noise that it makes; empty for translations.
    """

    file: Path
    difference: float
    size: int
    stride: int
    inputs: tuple[str, ...]
    samples: tuple[int, ...] = ()


class _Program(nn.Module):
    """What is traced: one function of a method, whose weights it holds."""

    def __init__(self, method: Method, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.method, self.function = method, function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def export(
    method: Method,
    output: PathLike,
    *,
    format: Format = "onnx",
    task: str | None = None,
    source: str | None = None,
    target: str | None = None,
    input: PathLike | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Exported:
    """Write a task of a trained method as one program of images, like ``xdomain export``.

    Its input ``images`` is float [N, C, H, W] in [-1, 1] with any N; there are also ``guide``, where the task takes
    one, and ``changes`` [N, K] of an editor without fixed ``attributes``: 1 adds an attribute, -1 takes it away, 0
    leaves it. Its output ``translation`` is float [N, C', H, W] in [-1, 1]. Everything that a user of it must know is
    JSON in the metadata ``xdomain`` (ONNX) or the extra file ``xdomain.json`` (pt2).

    Program and method are compared on photographs, with several numbers of images. If they differ, nothing is written.

    Of a method that has learned from a single image, the sampler is written: the task ``random``. Its inputs are the
    noises of all scales, ``noise_0`` and so on, float [N, ...] from a standard normal distribution with any N, in the
    shapes of the metadata; its output ``sample`` is float [N, C, H, W] in [-1, 1], of the size of the finest scale.

    Args:
        method: a trained method, such as from :func:`xdomain.load`. It is moved to the CPU.
        output: file to write.
        format: ``onnx``, or ``pt2`` for :func:`torch.export.load`.
        task: one of ``method.tasks`` that makes one picture of an image, or ``random``; by default ``transfer``, of a
            method that has learned from a single image ``random``.
        source: domain of the images; by default the method's usual one.
        target: domain to translate into; by default the method's usual one.
        input: image file or folder to compare on; by default the photographs that come with scikit-image.
        overwrite: replace an existing file.
        options: arguments of the task, such as ``attributes`` and ``strength``; they are fixed in the program.

    Raises:
        UserError: if the task is none of an image alone, if a package is missing, or if the program's translations
            differ from the method's. Nothing is written.
    """
    if format not in get_args(Format):
        refuse(None, "format", format, f"give {choice(get_args(Format))}.")
    file, kind = Path(output), type(method).__name__
    check_new([file], overwrite)
    packages = _onnx_packages() if format == "onnx" else None
    task = task or ("random" if isinstance(method, PyramidMethod) else "transfer")
    if isinstance(method, PyramidMethod) and task == "random":
        given = {"source": source, "target": target, "input": input, **options}
        for name, value in given.items():
            if value is not None:
                refuse(method, name, value, ", but a sampler is exported without options: leave it out.")
        return _export_sampler(method, file, packages)
    if not (tasks := of_images(method)):
        raise no_translation(method)
    free = isinstance(method, AttributeEditor) and task == "edit" and "attributes" not in options
    ends = {name: value for name, value in {"source": source, "target": target}.items() if value is not None}
    reason = method.not_exported(task) or ("" if task in TASKS else f"it gives no picture, as {choice(TASKS)} do")
    if reason and task in tasks:
        refuse(method, "task", task, f", which by this {kind} is not exported: {reason}.")
    function = chosen(method, tasks, task, [*ends, *options, *(["attributes"] if free else [])])
    source, target = method.direction(task, source, target, guided=_takes_guide(method, task, source, target))
    facts = facts_of(method, task, source, target, options)
    takes = arguments(function)
    fixed = {name: value for name, value in {"source": source, "target": target}.items() if name in takes}
    whole: Callable[..., Tensor] = partial(function, **fixed, **options)  # the method as it is used
    traced = partial(method.generate, target=target) if isinstance(method, TranslationMethod) else whole
    if free:
        assert isinstance(method, AttributeEditor)
        whole = traced = partial(method.edit_by, **options)
    elif facts["guide"]:
        whole = traced = _with_guide(whole)
    method.to("cpu").eval()
    with enough_memory(), torch.no_grad():
        program = _translating(method, traced, facts)
        side = facts["image_size"] - facts["image_size"] % (facts["stride"] or 1)
        pictures = _pictures(input, facts["channels"][0], side)
        pairs = ((inputs, whole(*inputs)) for inputs in _batches(facts, pictures))
        difference = _write(file, program, facts, packages, pairs)
    stride = facts["stride"]
    return Exported(file, difference, 0 if stride else facts["image_size"], stride, tuple(facts["inputs"]))


def _export_sampler(method: PyramidMethod, file: Path, packages: Any) -> Exported:
    if reason := method.not_exported("random"):
        kind = type(method).__name__
        refuse(method, "task", "random", f", which by this {kind} is not exported: {reason}.")
    method.to("cpu").eval()
    with enough_memory(), torch.no_grad():
        sampler = Sampler(method)
        facts, batch = sampler.facts(), Dim("batch", min=1)
        program = _traced(method, sampler, sampler.draw(2)[0], [{0: batch} for _ in facts["inputs"]])
        difference = _write(file, program, facts, packages, map(sampler.draw, BATCHES))
    return Exported(file, difference, 0, 0, tuple(facts["inputs"]), tuple(facts["size"]))


def _write(
    file: Path, program: ExportedProgram, facts: dict[str, Any], packages: Any, pairs: Iterable[tuple[Any, Tensor]]
) -> float:
    """Write a program, if it makes of inputs what its method makes of them; returns the largest difference."""
    content = _pt2(program, facts) if packages is None else _onnx(program, facts)
    run = _loaded_pt2(content) if packages is None else _loaded_onnx(content, packages)
    difference = max(float((wanted.float() - run(*inputs).float()).abs().max()) for inputs, wanted in pairs)
    if not difference <= MOST_DIFFERENCE:
        raise UserError(
            f"the program of this {facts['method']} differs by {difference:.1e} from the method, more than "
            f"{MOST_DIFFERENCE:.0e}: it is not written, try the other format."
        )
    with whole_file(file) as raw:
        raw.write(content)
    return difference


def _takes_guide(method: Method, task: str, source: str | None, target: str | None) -> bool:
    """Whether the task takes guides for these domains; what is not given is the method's usual one."""
    if not isinstance(method, ContentMethod):
        return False
    if task == "add" and source is None and target is None:
        return method.guided
    method.check_domains(source, target)
    first, last = method.directions[0]
    return method.needs_guide(task, source or first, target or last)


def _with_guide(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda images, guide: function(images, guide=guide)


def facts_of(method: Method, task: str, source: str, target: str, options: dict[str, Any]) -> dict[str, Any]:
    """What a user of the program must know, for its metadata."""
    guide = _takes_guide(method, task, source, target)
    ends = [method.channels[method.domains.index(name)] for name in (source, target)]
    stride = method.stride if isinstance(method, TranslationMethod) and method.any_size else 0
    editor = method if isinstance(method, AttributeEditor) and task == "edit" else None
    free = editor is not None and "attributes" not in options
    return {
        "xdomain": __version__,
        "method": type(method).__name__,
        "task": task,
        "source": source,
        "target": target,
        "domains": list(method.domains),
        "channels": ends,
        "range": [-1, 1],
        "image_size": method.image_size,
        "stride": stride if method.image_size >= 2 * stride else 0,  # else nothing smaller than the training's fits
        "edits": method.edits,
        "guide": guide,
        "inputs": ["images", *(["guide"] if guide else []), *(["changes"] if free else [])],
        "attributes": list(editor.names) if editor is not None and free else [],
        "exclusive": [list(group) for group in editor.exclusive] if editor is not None and free else [],
        "options": options,
    }


def _translating(method: Method, function: Callable[..., Tensor], facts: dict[str, Any]) -> ExportedProgram:
    """The program of a function, for any number of images and, with a stride, any multiples of it."""
    stride, size, batch = facts["stride"], facts["image_size"], Dim("batch", min=1)
    shape, free = (size, size), {0: batch}
    if stride:
        shape = (4 * stride, 3 * stride)
        free |= {2: stride * Dim("rows", min=2), 3: stride * Dim("columns", min=2)}
    images = torch.zeros(2, facts["channels"][0], *shape)
    inputs = {"images": images, "guide": images, "changes": torch.zeros(2, len(facts["attributes"]))}
    shapes = [{0: batch} if name == "changes" else free for name in facts["inputs"]]
    given = tuple(inputs[name].clone() for name in facts["inputs"])
    return _traced(method, _Program(method, function), given, shapes)


def _traced(method: Method, module: nn.Module, given: tuple[Tensor, ...], shapes: list[Any]) -> ExportedProgram:
    try:
        with quiet():
            return torch.export.export(module, given, dynamic_shapes=(tuple(shapes),), strict=False)
    except Exception as error:  # whatever a network does that cannot be traced
        why = str(error).strip().split("\n", 1)[0].rstrip(".")
        raise UserError(f"this {type(method).__name__} cannot be traced for an export: {why}.") from error


def _pt2(program: ExportedProgram, facts: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    with quiet():
        torch.export.save(program, content, extra_files={FACTS: json.dumps(facts)})
    return content.getvalue()


def _loaded_pt2(content: bytes) -> Callable[..., Tensor]:
    module = loaded(io.BytesIO(content))
    return lambda *inputs: module(*inputs)


def _onnx_packages() -> Any:
    """The module onnxruntime, if all packages are there that an export needs."""
    missing = []
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        needed = " and ".join(missing)
        raise UserError(f"an export to ONNX needs {needed}: run `pip install 'xdomain[export]'`, or give pt2.")
    return module


def _onnx(program: ExportedProgram, facts: dict[str, Any]) -> bytes:
    names = {"input_names": facts["inputs"], "output_names": [SAMPLE if facts["task"] == SAMPLE else "translation"]}
    try:
        with quiet():
            made = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False, **names)
    except Exception as error:
        why = str(error).strip().split("\n", 1)[0].rstrip(".")
        raise UserError(f"this {facts['method']} cannot be written as ONNX, give pt2: {why}.") from error
    assert made is not None
    model = made.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = "xdomain", json.dumps(facts)
    if model.ByteSize() > LARGEST_ONNX:
        raise UserError("the program has more than 2 GB, which one file of ONNX cannot hold: give pt2.")
    content: bytes = model.SerializeToString()
    return content


def _loaded_onnx(content: bytes, runtime: Any) -> Callable[..., Tensor]:
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def run(*inputs: Tensor) -> Tensor:
        given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, given)[0])

    return run


def _pictures(path: PathLike | None, channels: int, size: int) -> Tensor:
    """Some images to compare on, float [max(BATCHES), C, size, size] in [-1, 1]; again from the first if few."""
    if path is None:
        chosen_files = [Path(str(files("skimage"))) / "data" / name for name in PHOTOGRAPHS.values()]
    else:
        folder, names, _ = found_images(Path(path))
        chosen_files = [folder / name for name in names[: max(BATCHES)]]
    images = [square(to_float(read_image(file, channels))[None], size) for file in chosen_files[: max(BATCHES)]]
    return torch.cat([images[i % len(images)] for i in range(max(BATCHES))])


def _batches(facts: dict[str, Any], pictures: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Inputs to compare on: squares, and with a stride also a wider image."""
    batches = [pictures[:count] for count in BATCHES]
    if facts["stride"]:
        batches.append(torch.cat([pictures[:1], pictures[:1, ..., : facts["stride"]].flip(3)], 3))
    for images in batches:
        rng = np.random.default_rng(len(images))
        changes = torch.from_numpy(rng.integers(-1, 2, (len(images), len(facts["attributes"])))).float()
        inputs = {"images": images, "guide": images.roll(1, 0).flip(3), "changes": changes}
        yield tuple(inputs[name].contiguous() for name in facts["inputs"])
