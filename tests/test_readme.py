"""The README tells the truth: its tree is the tree, its commands exist, its make targets too."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def load(name: str):
    """A script of .ci, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tree_is_what_is_there():
    module = load("readme_tree")
    assert module.with_tree(README) == README, "run `python .ci/readme_tree.py`"
    undocumented = [line for line in module.tree().splitlines() if len(line.split()) < 2]
    assert not undocumented, "a module without a docstring"


def test_every_command_that_it_names_exists_and_every_command_is_named():
    from advisor.cli import build

    application = build()
    commands = {c.name for c in application.registered_commands} | {g.name for g in application.registered_groups}
    named = set(re.findall(r"`advisor ([a-z]+)", README))
    assert named == commands


def test_the_reference_of_the_command_line_is_what_the_commands_say():
    module = load("cli_reference")
    assert module.FILE.read_text(encoding="utf-8") == module.reference(), "run `python .ci/cli_reference.py`"


@pytest.mark.parametrize("command", sorted(set(re.findall(r"advisor (?:[a-z]+ )+(?:[A-Z]+ )?--[^`\n]*", README))))
def test_every_option_that_it_shows_is_known(command):
    import click
    import typer

    from advisor.cli import build

    words = command.split()
    found = typer.main.get_command(build())
    for word in words[1:]:
        if hasattr(found, "get_command"):
            found = found.get_command(click.Context(found), word)
    known = {option for parameter in found.params for option in parameter.opts}
    shown = {word.strip("[]") for word in words if word.strip("[]").startswith("--")}
    assert shown <= known


def test_make_targets():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^    |`)make ([a-z]+)", README, flags=re.M):
        assert f"\n{target}:" in makefile


def test_what_it_links_to_is_there():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]
