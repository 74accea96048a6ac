"""The storybook's word list knows every named word and, as no defence may, not one that is held out."""

from __future__ import annotations

import tomllib
from importlib.resources import files

from safelight.storybook.vocabulary import THINGS, plural


def test_it_lists_named_words_only() -> None:
    text = files("safelight.filters.text").joinpath("lexicons/storybook.toml").read_text("utf-8")
    listed = tomllib.loads(text)["labels"]
    for thing in THINGS.values():
        named = {form for word in thing.named for form in (word, plural(word))}
        held_out = {form for word in thing.held_out for form in (word, plural(word))}
        assert set(listed[thing.label]) == named
        assert not held_out & {word for words in listed.values() for word in words}
