from __future__ import annotations

import ast
import importlib.util
import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from safelight.errors import RequestError
from safelight.guard import arguments

# What carries no text, but says what to draw, switches a protection off, or is said in another way.
NOT_OPEN = {"enable_safety_check", "eos_token_id", "input_tokens", "mask_token_id", "num_designs_per_prompt"}
NOT_OPEN |= {"num_waveforms_per_prompt", "seed"}

_NUMERIC = {"int", "float", "bool", "None", "Optional", "Union", "list", "List", "tuple", "Tuple", "Iterable"}


@cache
def diffusers_arguments() -> dict[str, set[str]]:
    """The annotations of every argument of every pipeline in diffusers, read without importing any."""
    found: dict[str, set[str]] = defaultdict(set)
    spec = importlib.util.find_spec("diffusers")
    assert spec
    assert spec.origin
    for path in (Path(spec.origin).parent / "pipelines").rglob("pipeline_*.py"):
        for head in re.findall(
            r"\n    def __call__\(.*?\n    \)[^\n]*:\n", path.read_text("utf-8"), re.DOTALL
        ):
            function = ast.parse(f"class _:\n{head}        ...").body[0].body[0]  # type: ignore[attr-defined]
            asked = [*function.args.args[1:], *function.args.kwonlyargs]
            for argument in asked if "generator" in head else ():
                found[argument.arg].add(ast.unparse(argument.annotation) if argument.annotation else "")
    return found


def test_every_number_of_every_pipeline_in_diffusers_is_allowed() -> None:
    asked = diffusers_arguments()
    assert len(asked) > 400
    numeric = {
        name
        for name, kinds in asked.items()
        if (words := set(re.findall(r"[A-Za-z_.]+", " ".join(kinds)))) <= _NUMERIC and words - {"None"}
    }
    known = {name for name in numeric if arguments.is_number(name) or arguments.is_fixed(name)}
    assert {name for name in numeric - known if not name.startswith("sld_")} <= NOT_OPEN


def test_what_may_be_a_text_or_an_image_is_never_allowed_as_a_number() -> None:
    for name, kinds in diffusers_arguments().items():
        said = " ".join(kinds)
        if re.search(r"\bstr\b|Image|ndarray|dict\[str", said) and not arguments.is_fixed(name):
            assert not arguments.is_number(name), f"{name}: {said}"


def test_an_argument_is_in_one_class_alone() -> None:
    for name in diffusers_arguments():
        number = arguments.is_number(name)
        classes = [number, arguments.is_fixed(name), arguments.is_generator(name)]
        classes += [not number and kind(name) for kind in (arguments.is_opaque, arguments.takes_images)]
        assert sum(classes) + (not number and arguments.is_prompt(name)) <= 1, name


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (7.5, 7.5), (3, 3), (True, True), (None, None), ((512, 512), (512, 512)), ([[0.1]], [[0.1]]),
        (np.float32(0.5), 0.5), (np.int64(4), 4), (np.linspace(0, 1, 3), [0.0, 0.5, 1.0]),
        (range(3), [0, 1, 2]),
        ({0: 0.05, 10: 0.5}, {0: 0.05, 10: 0.5}), ([None, 1], [None, 1]),
    ],
)  # fmt: skip
def test_numbers_come_out_plain(value: Any, plain: Any) -> None:
    came = arguments.numbers("sigmas", value)
    assert came == plain
    assert type(came) is type(plain)


@pytest.mark.parametrize(
    "value",
    [
        "512", [0.5, "a gun"], {"a gun": 0.5}, {0: "a gun"}, b"1", 1j, object(), np.str_("a gun"), {1, 2},
        float("nan"), float("inf"), [10**5000], np.zeros((4, 4)), [[[[[1]]]]], [0.5] * 10_001,
        [[1] * 101] * 101, iter([1, 2]), np.array(["a gun"]), np.array([object()]), {True: 1},
    ],
)  # fmt: skip
def test_nothing_but_numbers_comes_in_under_the_name_of_a_number(value: Any) -> None:
    with pytest.raises(RequestError, match=r"^sigmas .*\.$"):
        arguments.numbers("sigmas", value)


def test_a_number_of_a_subclass_is_made_plain() -> None:
    class Sly(int):
        def __int__(self) -> int:
            return 99

        __index__ = __int__

    class Slow(float):
        def __float__(self) -> float:
            return 99.0

    assert (arguments.numbers("height", Sly(8)), arguments.numbers("eta", Slow(0.5))) == (8, 0.5)


def test_tensors_of_numbers_and_generators() -> None:
    torch = pytest.importorskip("torch")
    assert arguments.numbers("timesteps", torch.tensor([3, 2, 1])) == [3, 2, 1]
    assert arguments.numbers("sigmas", torch.tensor([0.5], dtype=torch.bfloat16)) == [0.5]
    with pytest.raises(RequestError, match="not Tensor"):
        arguments.numbers("sigmas", torch.zeros(1, 4, 8, 8))
    one = torch.Generator()
    assert arguments.generators("generator", one) is one
    assert arguments.generators("generator", (one, one)) == [one, one]
    for wrong in (3, "seed", [one, "a gun"], torch.zeros(3)):
        with pytest.raises(RequestError, match=r"torch\.Generator"):
            arguments.generators("generator", wrong)


@pytest.mark.parametrize("names", ["latents", [""], [3], ["output_type"], ("return_dict", "latents")])
def test_what_is_opened_is_a_list_of_names(names: Any) -> None:
    with pytest.raises(RequestError, match="allow_arguments"):
        arguments.checked_names(names)
