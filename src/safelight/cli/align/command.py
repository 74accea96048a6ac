"""The command of an alignment method: its own options, the shared options, and the run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer
from typer.core import TyperCommand
from typer.main import get_command

from safelight import registry
from safelight.cli import terminal
from safelight.cli.align.field_options import (
    PREFIX,
    FieldOption,
    default_of,
    is_method,
    metadata_of,
    options_of,
)
from safelight.cli.align.prompt_files import COLUMN, PROMPT_OPTIONS, prompts_of, read_prompts
from safelight.cli.align.proof import check_output, draw_curve, judge_of, prove_and_save
from safelight.cli.options import AsJson, Model, Seed, Steps
from safelight.cli.pipeline import open_pipeline
from safelight.cli.renamed_options import Command
from safelight.errors import RegistryError, RequestError
from safelight.types import AlignmentRun

if TYPE_CHECKING:
    from safelight.protocols import AlignmentMethod

_PROMPTS = "prompts"

# The options that all methods share, and their defaults; a field of the same name takes the option's value.
_SHARED: Mapping[str, tuple[Any, Any]] = {
    "output": (
        Annotated[
            Path,
            typer.Option(
                help="File for the delta, .safetensors; a model card (.md and .png) is written beside it."
            ),
        ],
        Parameter.empty,
    ),
    "model": (Model, "storybook"),
    "num_images": (
        Annotated[
            int,
            typer.Option(
                min=1,
                help="Number of images of each concept to generate before and after the change, for the "
                "card.",
            ),
        ],
        8,
    ),
    "num_inference_steps": (Steps, 25),
    "seed": (Seed, 0),
    "resume": (
        Annotated[
            bool,
            typer.Option(
                "--resume",
                help="Resume from the checkpoint that the same command left when it was interrupted; without "
                "it, such a checkpoint is an error.",
            ),
        ],
        False,
    ),
    "as_json": (AsJson, False),
}


def command_of(name: str) -> TyperCommand:
    """Return the command of the registered alignment method ``name``.

    Raises ``RegistryError`` for a method that is not a dataclass, or has a field that cannot be an option.
    """
    command = _MethodCommand.of(name)

    def run(**values: Any) -> None:
        command.run(values)

    parameters = command.parameters
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name, cls=Command, help=command.help)(run)
    made = get_command(app)
    assert isinstance(made, TyperCommand)
    return made


@dataclass(frozen=True, slots=True)
class _MethodCommand:
    """The command of one method.

    ``own`` are the options made from the method's fields, and ``with_prompts`` is for a field of prompts.
    """

    name: str
    method: type
    own: Mapping[str, FieldOption]
    with_prompts: bool

    @classmethod
    def of(cls, name: str) -> Self:
        method = registry.factory_of("alignment_method", name)
        if not is_method(method):
            raise RegistryError(f'the alignment method "{name}" must be a dataclass that has align.')
        assert isinstance(method, type)
        with_prompts = _PROMPTS in {each.name for each in fields(method)}
        return cls(name, method, options_of(method, skipped=(*_SHARED, _PROMPTS)), with_prompts)

    @property
    def help(self) -> str:
        """The first paragraph of the class's docstring, and its ``examples``."""
        said = " ".join((self.method.__doc__ or "").split("\n\n")[0].split())
        examples = getattr(self.method, "examples", ())
        lines = [f"  safelight align {self.name} {each}" for each in examples]
        return "\n".join([said, "", "\b", "Examples:", *lines]) if lines else said

    @property
    def parameters(self) -> list[Parameter]:
        """The command's parameters: the method's own, required ones first, and then the shared ones."""
        mine = [option.parameter for option in self.own.values()]
        mine += PROMPT_OPTIONS if self.with_prompts else ()
        if self.with_prompts or any(option.is_files for option in self.own.values()):
            mine.append(COLUMN)
        mine.sort(key=lambda each: each.default is not Parameter.empty)
        defaults = {name: default for name, (_, default) in _SHARED.items()}
        defaults |= {name: default_of(self.method, name, defaults[name]) for name in self.shared_fields}
        return mine + [
            Parameter(name, Parameter.KEYWORD_ONLY, default=defaults[name], annotation=annotation)
            for name, (annotation, _) in _SHARED.items()
        ]

    @property
    def shared_fields(self) -> list[str]:
        """The fields that take their value from an option that all methods share."""
        mine = {each.name for each in fields(self.method)}
        return [n for n in _SHARED if n in mine and "option" not in metadata_of(self.method, n)]

    def run(self, values: Mapping[str, Any]) -> None:
        check_output(values["output"])
        align_model(
            self.build(values),
            values["model"],
            values["output"],
            values["resume"],
            (values["num_images"], values["num_inference_steps"], values["seed"]),
            values["as_json"],
        )

    def build(self, values: Mapping[str, Any]) -> AlignmentMethod:
        """Return the method with the given option values. Raises ``RequestError`` for invalid values."""
        settings: dict[str, Any] = {}
        for name, option in self.own.items():
            value = values[PREFIX + name]
            if option.is_files:
                value = [text for path in value for text in read_prompts(path, values[COLUMN.name])]
            settings[name] = option.parse(value)
        settings |= {name: values[name] for name in self.shared_fields}
        if self.with_prompts:
            settings[_PROMPTS] = prompts_of(values, values["model"], values["seed"])
        made: AlignmentMethod = self.method(**settings)
        return made


def align_model(
    method: AlignmentMethod,
    model: str,
    output: Path,
    resume: bool,
    generation: tuple[int, int, int],
    as_json: bool,
    preserved: Sequence[str] = (),
) -> None:
    """Run ``method`` on ``model``, and write the delta, its card and the loss curve.

    ``generation`` has the number of images to generate as proof, their steps and the first seed.
    """
    work = output.with_suffix(".checkpoint")
    first = getattr(method, "is_first", True)  # of the processes that `accelerate launch` started
    if work.exists() and not resume and first:
        raise RequestError(f"{work} has the checkpoint of a training; give --resume, or remove it.")
    pipe = open_pipeline(model)
    with terminal.progress("Aligning") as progress:
        result = method.align(pipe, AlignmentRun(work, judge_of(model), progress=progress))
    if not first:
        return
    prove_and_save(
        pipe, model, replace(result, preserved=(*result.preserved, *preserved)), output, generation, as_json
    )
    if result.loss:
        draw_curve(result.loss, output)
    shutil.rmtree(work, ignore_errors=True)  # it does not exist if nothing was trained
