"""Arguments of pipelines, nested in any way: whatever text or image reaches a pipeline was screened.

python -m fuzz.call_arguments [--count 20000] [--seed 0]
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from fuzz.subject import Subject, Tried, main, timed
from safelight.errors import RequestError
from safelight.guard import arguments as known
from safelight.guard.inputs import Inputs

_IMAGE = Image.new("RGB", (4, 4), "red")


def _png() -> bytes:
    buffer = io.BytesIO()
    _IMAGE.save(buffer, "PNG")
    return buffer.getvalue()


class _Shifty(str):
    """A text that says something else when it is asked."""

    __slots__ = ()

    def __str__(self) -> str:
        return "a gun"

    __repr__ = __str__


_NAMES = st.one_of(
    st.sampled_from(["text", "height", "image", "prompt_2", "latents", "scale", "odd", "cross_kwargs"]),
    st.sampled_from(
        ["negative_prompt", "mask_image", "video", "attention_kwargs", "gligen_phrases", "generator"]
    ),
    st.sampled_from(
        ["prompt_embeds", "callback", "lora_scale", "output_type", "batch_size", "image_latents"]
    ),
    st.sampled_from(
        ["boxes", "sigmas", "controls", "prompt_attention_mask", "ip_adapter_image", "num_frames"]
    ),
    st.text("aeimp_2", min_size=1, max_size=8),
)
_TEXTS = st.text("ab \x00", min_size=1, max_size=4) | st.text(max_size=8) | st.text(max_size=4).map(_Shifty)
_LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=3))
_IMAGES = st.sampled_from([_IMAGE, _IMAGE.convert("L"), _png(), bytearray(_png())]) | st.builds(
    io.BytesIO, st.just(_png())
)
_SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 5]), max_size=5).map(tuple)
_ARRAYS = st.builds(
    np.zeros, _SHAPES, st.sampled_from(["uint8", "bool", "float32", "float64", "int64", "U3", "O"])
)
_ODD = st.sampled_from(
    [
        object(),
        print,
        Path("a.png"),
        {"a gun"},
        SimpleNamespace(text="a gun"),
        range(3),
        1j,
        np.float32(1),
        np.str_("a"),
    ]
)
values: st.SearchStrategy[Any] = st.recursive(
    _LEAVES | _TEXTS | _IMAGES | _ARRAYS | _ODD,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(_NAMES | _TEXTS | st.integers(0, 3), inner, max_size=3)
    ),
    max_leaves=8,
)
# Most values are refused, and one refusal ends a call; so many a call has values of one kind alone.
_texts_alone: st.SearchStrategy[Any] = st.recursive(
    _TEXTS | st.just("a cat"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES | st.just("a cat"), inner, max_size=3),
    max_leaves=8,
)
_images_alone = st.recursive(_IMAGES | st.none(), lambda inner: st.lists(inner, max_size=3), max_leaves=4)
_numbers_alone = st.recursive(
    st.integers(-9, 9) | st.floats(-1, 1), lambda inner: st.lists(inner, max_size=3), max_leaves=4
)


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments of a pipeline, and the names of those that the operator has opened."""

    arguments: Mapping[str, Any]
    opened: Sequence[str] = ()


cases = st.builds(
    Call,
    st.one_of(
        st.dictionaries(_NAMES, values, max_size=3),
        st.dictionaries(_NAMES, _texts_alone, max_size=2),
        st.dictionaries(_NAMES, _images_alone, max_size=2),
        st.dictionaries(_NAMES, _numbers_alone, max_size=2),
    ),
    st.just(()) | st.lists(_NAMES, max_size=2),
)


def check(call: Call) -> Tried:
    inputs, cpu_s = timed(lambda: _read(call))
    for name, value in inputs.arguments.items() if inputs else ():
        texts, images = inputs.texts.get(name, ()), inputs.images.get(name, ())
        for path, each in _leaves((name,), value):
            _check_leaf(path, each, texts, images, name in call.opened)
    return Tried(1, inputs is None, cpu_s)


def _read(call: Call) -> Inputs | None:
    try:
        return Inputs.of(call.arguments, call.opened)
    except RequestError:
        return None


def _leaves(path: tuple[Any, ...], value: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value that is no list or dictionary, and every key, with the names that lead there."""
    if isinstance(value, list | tuple):
        for each in value:
            yield from _leaves(path, each)
    elif isinstance(value, dict):
        for key, each in value.items():
            if not _is_harmless_name(key):
                yield path, key
            yield from _leaves((*path, key), each)
    else:
        yield path, value


def _is_harmless_name(key: Any) -> bool:
    return isinstance(key, str) and any(
        is_one(key) for is_one in (known.is_number, known.is_fixed, known.is_generator)
    )


def _check_leaf(
    path: Sequence[Any], value: Any, texts: Sequence[str], images: Sequence[Image.Image], opened: bool
) -> None:
    """Texts and images were screened; without leave, numbers have a number's name and all else is refused."""
    numeric = any(isinstance(name, str) and known.is_number(name) for name in path)
    if isinstance(value, str):
        assert type(value) is str
        fixed = known.is_fixed(path[-1]) and value == "pil"
        assert not value or fixed or value in texts, f"{path}: {value!r} was not screened"
    elif isinstance(value, Image.Image):
        assert type(value) is Image.Image
        assert any(value is image for image in images), f"{path}: an image was not screened"
    elif value is not None and not opened:
        fixed = known.is_fixed(path[-1])
        assert numeric or fixed, f"{path}: {value!r} was not refused"
        assert type(value) in (bool, int, float), f"{path}: {value!r} is no plain number"


CALL_ARGUMENTS = Subject("calls of a pipeline", cases, check, 20_000, 1.0)

if __name__ == "__main__":
    main(CALL_ARGUMENTS)
