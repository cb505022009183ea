"""Entry point: answers ``list``, ``--version`` and ``--help`` at once and imports torch only for real work."""

import importlib
import os
import sys
from contextlib import nullcontext

from xdomain import __version__, discover
from xdomain.errors import UserError
from xdomain.running.signals import Stopped, end_with_parent, stoppable
from xdomain.running.slurm import announced

HELP = """\
usage: xdomain COMMAND [options]

Cross-domain image translation: train, measure and use the methods of one family under one roof.

commands:
  fit        train:               xdomain fit --config dtn.yaml
  validate   validation metrics:  xdomain validate --config dtn.yaml --ckpt_path RUN
  test       table and JSON:      xdomain test --config dtn.yaml --ckpt_path RUN|last|best
  predict    translate the test images of the data into the run folder
  translate  a folder of images:  xdomain translate --ckpt_path RUN --input DIR --output DIR
                                  --source street --target handwritten
  serve      a page that does so:  xdomain serve RUN
  export     one program, ONNX:   xdomain export RUN --format onnx --output model.onnx
  render     parameters to pictures:  xdomain render --engine avatars --parameters u.json --output DIR
  corrupt    a folder of images:  xdomain corrupt --input DIR --output DIR --corruption fog snow --severity 3
  pack       a small file of weights:  xdomain pack RUN --output FILE.safetensors, or --helper RECIPE
  push       that, to the Hugging Face Hub:  xdomain push RUN OWNER/NAME
  sample     from one image:      xdomain sample --ckpt_path RUN --output DIR --n 20 --size 256x400
  data check what is wrong with image files:  xdomain data check DIR, or --config RECIPE
  table      results side by side: xdomain table didd
             publish a tested run: xdomain table --collect RUN
  compare    runs side by side, seeds averaged:  xdomain compare RUN RUN --html compare.html
  report     one run as one page:  xdomain report RUN
  strip      edits of several methods in one picture:  xdomain strip RUN RUN --output strip.png
  schema     of recipes, for editors:  xdomain schema --output recipe.schema.json
  completion of commands and names in bash and zsh:  source <(xdomain completion bash)
  list       methods, recipes, data and overlays that there are

options:
  --config NAME   a recipe or, given again, an overlay: a path, or a name shown by `xdomain list`
  --ckpt_path RUN a run folder or checkpoint file, or `last` or `best` of the newest run of this name;
                  with fit also `auto`: that of the same settings, or a new run
  --weights RUN   with fit: a new run that begins with the weights of another
  --fresh         train helper networks (classifiers, judges) here, also those that come with the package
  --help          this text; `xdomain fit --help` shows every setting of a command
  --version       the version

Any setting can follow on the command line: xdomain fit --config dtn.yaml --trainer.max_steps 100
"""
TRAINER = ("fit", "validate", "test", "predict")
OWN = (
    "translate",
    "serve",
    "export",
    "render",
    "corrupt",
    "sample",
    "pack",
    "push",
    "table",
    "compare",
    "report",
    "strip",
    "schema",
    "completion",
)
"""Commands with a file and a function of their name: ``translate_command`` in ``xdomain/commands/translate.py``."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Returns:
        the exit status: 0 success, 1 bad files or a failure of the environment, 2 bad input, 130 stopped by SIGINT, 143
        by SIGTERM, 141 closed output pipe.
    """
    end_with_parent()
    try:
        with stoppable():
            status = _command(sys.argv[1:] if argv is None else argv)
            sys.stdout.flush()  # else a closed pipe is noticed only at exit, where it cannot be caught
            return status
    except Stopped as stop:
        if stop.sentence:
            print(f"xdomain: {stop.sentence}", file=sys.stderr)
        return int(str(stop.code))
    except UserError as error:
        print(f"xdomain: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # as in xdomain list | head
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - Python flushes it when it ends
        return 128 + 13  # like a process ended by SIGPIPE
    except Exception as error:
        from xdomain.commands.messages import failure

        if (told := failure(error)) is None:
            raise
        print(f"xdomain: error: {told}", file=sys.stderr)
        return 1


def _command(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if args[0] == "--version":
        print(f"xdomain {__version__}")
        return 0
    if args[0] == "list":
        print(discover.catalogue())
        return 0
    if args[0] == "data":
        if args[1:2] != ["check"]:
            raise UserError("xdomain data has one command: xdomain data check DIR, or --config RECIPE.")
        from xdomain.commands.check_data import check_command

        return check_command(args[2:])
    if args[0] in OWN:
        module = importlib.import_module(f"xdomain.commands.{args[0]}")
        return int(getattr(module, f"{args[0]}_command")(args[1:]))
    if args[0] not in TRAINER:
        raise UserError(f"unknown command {args[0]!r}: choose one of {', '.join((*TRAINER, *OWN, 'data', 'list'))}.")
    with announced() if args[0] == "fit" else nullcontext():
        from xdomain.commands.train import run

        run(args)
    return 0
