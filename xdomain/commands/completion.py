"""``xdomain completion``: completion of commands, options, recipes and names in bash and zsh."""

import importlib
import io
import re
from contextlib import redirect_stdout, suppress

from xdomain import discover
from xdomain.commands import main
from xdomain.commands.options import Parser

DESCRIPTION = """\
Print a script that lets the shell complete commands, options, and names of recipes, overlays, tasks, tables and trained
weights. Put into ~/.bashrc or ~/.zshrc the line

  source <(xdomain completion bash)        or        source <(xdomain completion zsh)"""
TRAINER_OPTIONS = (
    "--config --ckpt_path --weights --fresh --help --print_config --seed_everything --trainer.max_steps "
    "--trainer.run_dir --trainer.accelerator --trainer.devices --trainer.precision --data.help --model.help"
)
ENGINES = "avatars glyphs polygons"
SCRIPT = """\
_xdomain() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
  if [ "$before" = ":" ]; then  # bash takes zoo:NAME for three words
    before="${{COMP_WORDS[COMP_CWORD-2]}}:"
  fi
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="{commands}"
  else
    case "$before" in
      --config|--helper) words="{configs}" ;;
      --ckpt_path|--weights) words="last best auto {weights}" ;;
      zoo:) words="{zoo}" ;;
      --task) words="{tasks}" ;;
      --engine) words="{engines}" ;;
      *) case "${{COMP_WORDS[1]}}" in
{options}
      esac ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _xdomain xdomain
"""
ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


def completion_command(args: list[str]) -> int:
    """Run ``xdomain completion``; returns the exit status."""
    parser = Parser(prog="xdomain completion", description=DESCRIPTION)
    parser.add_argument("shell", choices=("bash", "zsh"))
    options = parser.parse_args(args)
    print((ZSH if options.shell == "zsh" else "") + script(), end="")
    return 0


def script() -> str:
    """The completion function for bash, and for zsh with ``bashcompinit``."""
    of = {"|".join(main.TRAINER): TRAINER_OPTIONS, **{command: " ".join(options_of(command)) for command in main.OWN}}
    of["table"] += f" {' '.join(tables())}"
    overlays = [name for group in discover.overlays().values() for name in group]
    zoo = list(discover.trained_weights())
    return SCRIPT.format(
        commands=" ".join([*main.TRAINER, *main.OWN, "data", "list", "--help", "--version"]),
        configs=" ".join(sorted({*discover.recipes(), *overlays})),
        weights=" ".join(zoo),
        zoo=" ".join(name.partition(":")[2] for name in zoo),
        tasks=" ".join(discover.tasks()),
        engines=ENGINES,
        options="\n".join(f'        {command}) words="{words}" ;;' for command, words in of.items()),
    )


def options_of(command: str) -> list[str]:
    """The options that the help of a command names."""
    help_ = io.StringIO()
    with redirect_stdout(help_), suppress(SystemExit):
        getattr(importlib.import_module(f"xdomain.commands.{command}"), f"{command}_command")(["--help"])
    usage = help_.getvalue().partition("\n\n")[0]
    return sorted({*re.findall(r"--\w+", usage), "--help"})


def tables() -> list[str]:
    """Names of the published tables."""
    lines = (discover.PACKAGE / "commands" / "tables.yaml").read_text(encoding="utf-8").splitlines()
    return [line[:-1] for line in lines if re.fullmatch(r"\w+:", line)]
