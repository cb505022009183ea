"""``xdomain export``: a trained method as one program."""

import argparse
from pathlib import Path

from xdomain.commands.options import (
    ALLOW,
    Parser,
    add_task_options,
    described,
    named_options,
    task_options,
)
from xdomain.commands.translate import signed
from xdomain.discover import TaskEntry, tasks
from xdomain.errors import UserError
from xdomain.inference.program import TASKS

DESCRIPTION = """\
Write what a trained method does with an image as one program: an ONNX file, which other runtimes know, or a file for
torch.export.load. It takes any number of images, float [N, C, H, W] in [-1, 1], as RGB or grey, and gives translations
likewise. Methods that translate whole domains, such as CycleGAN, take all sides that are multiples of their stride,
the others squares of the size that they were trained with. Everything to know is JSON in the metadata.

Of a method that has learned from a single image it is the sampler, from the noises of all scales to images of the size
of the finest: SinGAN, ConSinGAN, and HP-VAE-GAN of an image.

Program and method are compared on photographs or on noise; if values in [-1, 1] differ by more than 0.0001, nothing is
written.

  xdomain export runs/mine --format onnx --output model.onnx
  xdomain translate --ckpt_path model.onnx --input photos --output translated      (needs onnxruntime, no torch)
  xdomain sample --ckpt_path sampler.onnx --output samples                         (likewise)

--task says what the program makes of an image:
{tasks}

edit without --attributes gives a program with another input, changes [N, K]: 1 adds an attribute, -1 takes it away."""


def _parser(known: dict[str, TaskEntry]) -> Parser:
    parser = Parser(
        "xdomain export",
        description=DESCRIPTION.format(tasks=described(known)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("run", metavar="RUN|FILE", help="run folder (its best checkpoint) or file")
    add("--format", choices=("onnx", "pt2"), default="onnx", help="by default onnx; pt2 for torch.export.load")
    add("--output", metavar="FILE", help="file to write; by default model.onnx or model.pt2 in this folder")
    add("--task", metavar="TASK", help="by default transfer, of a method that has learned from a single image random")
    add("--source", metavar="NAME", help="domain of the images; by default the method's usual one")
    add("--target", metavar="NAME", help="domain to translate into; by default the method's usual one")
    add_task_options(parser, known)
    add("--input", metavar="DIR|FILE", help="images to compare on; by default the photographs of scikit-image")
    add("--allow", metavar="PACKAGE", action="append", default=[], help=f"{ALLOW}; can be given again")
    add("--overwrite", action="store_true", help="replace an existing file")
    return parser


def export_command(args: list[str]) -> int:
    """Run ``xdomain export``; returns the exit status.

    Raises:
        UserError: if the method cannot be exported, or differs from its program; nothing is written then.
    """
    known = {name: entry for name, entry in tasks().items() if name in TASKS}
    options = _parser(known).parse_args(signed(args))

    from xdomain.inference.export import MOST_DIFFERENCE, export
    from xdomain.inference.loading import load

    output = Path(options.output or f"model.{options.format}")
    if output.suffix != f".{options.format}":
        raise UserError(f"--output is {output}: give a file that ends in .{options.format}.")
    method = load(options.run, options.allow)
    common = ("format", "task", "source", "target", "input", "overwrite")
    with named_options():
        made = export(
            method, output, **{name: getattr(options, name) for name in common}, **task_options(options, known)
        )
    if made.samples:
        what = f"noise of {len(made.inputs)} scales to samples of {'x'.join(map(str, made.samples))} pixels"
        print(f"{made.file}: {what}, largest difference {made.difference:.1e} (at most {MOST_DIFFERENCE:.0e})")
        return 0
    sizes = f"{made.size}x{made.size} pixels" if made.size else f"any multiples of {made.stride} pixels"
    print(f"{made.file}: {', '.join(made.inputs)} of {sizes}, largest difference {made.difference:.1e}", end=" ")
    print(f"(at most {MOST_DIFFERENCE:.0e})")
    return 0
