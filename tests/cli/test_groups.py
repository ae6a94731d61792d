"""The command's front page: every command in one group, whole sentences that fit, an example that parses in each help."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from rs05bench.cli import _register, app
from rs05bench.cli._groups import EXAMPLES, MORE, SECTIONS

RUN = CliRunner()


@pytest.fixture(scope="module")
def command():
    if not app.registered_commands:
        _register()
    return get_command(app)


def names(command) -> set[str]:
    """Every command that can be typed, groups by their subcommands."""
    found = set()
    for name, one in command.commands.items():
        inner = getattr(one, "commands", {})
        found |= {f"{name} {sub}" for sub in inner}
        if not inner or name == "models":
            found.add(name)
    return found


def test_every_command_is_in_one_group(command):
    listed = [name for commands in (*SECTIONS.values(), MORE) for name in commands]
    assert sorted(listed) == sorted(command.commands)


def test_every_command_has_an_example_that_it_takes(command):
    there = names(command)
    assert sorted(there - set(EXAMPLES)) == []
    for name, example in EXAMPLES.items():
        if name not in there:
            continue
        words = shlex.split(example)
        assert words[0] == "rs05bench"
        assert " ".join(words[1:]).startswith(name)
        one = command
        rest = words[1:]
        while rest and rest[0] in getattr(one, "commands", {}):
            one = one.commands[rest.pop(0)]
        with one.make_context(name, list(rest)):  # raises where an argument or option is unknown or missing
            pass
        text = RUN.invoke(app, [*words[1 : len(words) - len(rest)], "--help"]).output
        assert "Example: rs05bench" in text, name


def test_the_help_fits_one_screen_in_whole_sentences(command):
    text = RUN.invoke(app, ["--help"]).output
    lines = text.splitlines()
    assert len(lines) <= 60
    assert all(len(line) <= 80 for line in lines)
    assert text.count("...") == 1  # of the usage line
    for commands in SECTIONS.values():
        for sentence in commands.values():
            assert sentence.endswith(".")
            assert sentence in text


def test_the_command_alone_shows_what_people_do_first():
    done = subprocess.run([sys.executable, "-m", "rs05bench.cli"], capture_output=True, text=True, check=True)
    assert "Three things" in done.stdout
    assert "card init" in done.stdout
