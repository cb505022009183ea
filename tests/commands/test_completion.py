"""Completion in the shell, as the shell does it."""

import shutil
import subprocess

import pytest
import yaml

from xdomain import discover
from xdomain.commands import main
from xdomain.commands.completion import ENGINES, script
from xdomain.commands.table import TABLES
from xdomain.inference import parameters


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """What bash offers for a line, whose last word is being typed."""
    file = tmp_path_factory.mktemp("shell") / "completion.sh"
    file.write_text(script())

    def offered(*words):
        quoted = " ".join(f"'{word}'" for word in words)
        lines = f"source {file}; COMP_WORDS=(xdomain {quoted}); COMP_CWORD={len(words)}; _xdomain"
        shell = ["bash", "--norc", "-c", f'{lines}; printf "%s\\n" "${{COMPREPLY[@]}}"']
        return subprocess.run(shell, capture_output=True, text=True, check=True).stdout.split()

    return offered


def test_commands_and_names_are_completed(complete):
    assert complete("tr") == ["translate"]
    assert set(complete("")) == {*main.TRAINER, *main.OWN, "data", "list", "--help", "--version"}
    assert complete("fit", "--config", "singan_t") == [
        n for n in sorted(discover.recipes()) if n.startswith("singan_t")
    ]
    assert complete("fit", "--config", "dtn.yaml", "--config", "no_t") == ["no_tid.yaml"]
    assert complete("test", "--ckpt_path", "b") == ["best"]
    assert {"zoo:dtn", "auto"} <= set(complete("translate", "--ckpt_path", ""))
    assert complete("translate", "--ckpt_path", "zoo", ":", "dt") == ["dtn"]
    assert set(complete("translate", "--task", "")) == set(discover.tasks())
    assert complete("translate", "--batch") == ["--batch_size"]
    assert set(complete("pack", "--")) == {"--help", "--helper", "--output", "--overwrite"}
    assert set(complete("table", "")) >= set(yaml.safe_load(TABLES.read_text()))
    assert set(complete("render", "--engine", "")) == set(ENGINES.split()) == set(parameters.ENGINES)
    assert complete("fit", "--fr") == ["--fresh"]
    assert complete("translate", "--input", "x") == []  # then bash offers files


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_takes_the_script(tmp_path):
    (tmp_path / "completion.zsh").write_text("autoload -U +X bashcompinit && bashcompinit\n" + script())
    subprocess.run(["zsh", "-f", "-c", f"source {tmp_path}/completion.zsh"], check=True)
