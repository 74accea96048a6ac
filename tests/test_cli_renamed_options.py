"""Old names of options work, and no help shows them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.core import TyperOption
from typer.testing import CliRunner

from safelight.cli import app
from safelight.cli.renamed_options import RENAMED, Commands


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command below a group, with the words that call it."""
    for name, each in getattr(command, "commands", {}).items():
        yield from _commands(each, (*path, name))
    if not hasattr(command, "commands"):
        yield path, command


COMMANDS = list(_commands(typer.main.get_command(app)))


def test_generate_understands_old_names(model_folder: Path, tmp_path: Path) -> None:
    old = ["--n", "2", "--steps=1", "--out", str(tmp_path / "old")]
    new = ["--num-images-per-prompt", "2", "--num-inference-steps", "1", "--output", str(tmp_path / "new")]
    common = ["generate", "a dog", "--model", str(model_folder), "--seed", "5", "--unguarded"]
    for options in (old, new):
        done = CliRunner().invoke(app, [*common, *options], catch_exceptions=False)
        assert done.exit_code == 0
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["a-dog-5.png", "a-dog-6.png"]
    for name in names:
        with Image.open(tmp_path / "old" / name) as one, Image.open(tmp_path / "new" / name) as other:
            assert one.tobytes() == other.tobytes()


def test_a_value_that_looks_like_an_option_is_left_alone(model_folder: Path, tmp_path: Path) -> None:
    arguments = [
        "--model",
        str(model_folder),
        "--steps",
        "1",
        "--out",
        str(tmp_path),
        "--unguarded",
        "--json",
    ]
    done = CliRunner().invoke(app, ["generate", *arguments, "--", "--out"], catch_exceptions=False)
    assert done.exit_code == 0
    assert [image["prompt"] for image in json.loads(done.stdout)["images"]] == ["--out"]


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_no_help_shows_an_old_name(path: tuple[str, ...], command: Any) -> None:
    options = {name for each in command.params if isinstance(each, TyperOption) for name in each.opts}
    old = {name for name, new in RENAMED.items() if new.partition("=")[0] in options}
    shown = CliRunner().invoke(app, [*path, "--help"], catch_exceptions=False).stdout.split()
    assert not old & {word.strip(",") for word in shown}


def test_a_new_name_may_bring_its_value_along() -> None:
    toy = Commands()

    @toy.command()
    def train(lr_scheduler: str = "constant") -> None:
        typer.echo(lr_scheduler)

    assert CliRunner().invoke(toy, ["--falling"]).stdout == "cosine\n"
    assert CliRunner().invoke(toy, []).stdout == "constant\n"


def test_an_option_that_a_command_still_has_is_not_renamed() -> None:
    toy = Commands()

    @toy.command()
    def train(rate: float = 1.0, learning_rate: float = 2.0) -> None:
        typer.echo(f"{rate:g} {learning_rate:g}")

    assert CliRunner().invoke(toy, ["--rate", "5"]).stdout == "5 2\n"
