from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from safelight import registry
from safelight.errors import RegistryError
from safelight.filters.constant import Always
from safelight.filters.text.lexicon import Lexicon


def test_built_ins_are_found_without_being_imported_first() -> None:
    names = ("always", "child-safety", "classifier", "language-model", "lexicon", "never")
    assert registry.names("prompt_filter") == names
    assert {"nsfwjs", "nudenet", "storybook-image", "tiles"} <= set(registry.names("image_filter"))


def test_components_are_built_with_their_options() -> None:
    built = registry.build("prompt_filter", "lexicon", name="mine", words="storybook")
    assert isinstance(built, Lexicon)
    assert built.name == "mine"
    later = registry.bind("image_filter", "always", label="hate")
    assert later() == Always(label="hate")


def test_an_unknown_name_or_kind_lists_what_there_is() -> None:
    with pytest.raises(RegistryError, match=r'no prompt_filter "lexicom"; .*did you mean "lexicon"'):
        registry.build("prompt_filter", "lexicom")
    with pytest.raises(RegistryError, match='no kind of component "promt_filter"'):
        registry.names("promt_filter")


def test_an_unknown_option_is_refused_before_anything_is_built() -> None:
    with pytest.raises(RegistryError, match=r"takes the options words, name: .*'word'"):
        registry.bind("prompt_filter", "lexicon", word="storybook")


def test_a_name_is_given_once() -> None:
    with pytest.raises(RegistryError, match='a prompt_filter "lexicon" already'):
        registry.register("prompt_filter", "lexicon")(Always)


class _EntryPoint:
    """The entry points of an installed package, without installing one."""

    def __init__(self, name: str, factory: object) -> None:
        self.name = name
        self._factory = factory

    def load(self) -> object:
        return self._factory


def test_other_packages_bring_components_as_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {"theirs": _EntryPoint("theirs", Always), "lexicon": _EntryPoint("lexicon", Always)}
    monkeypatch.setattr(registry, "_plugins", lambda kind: points)
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    assert "theirs" in registry.names("prompt_filter")
    assert registry.build("prompt_filter", "theirs", name="t").name == "t"
    with pytest.raises(RegistryError, match='two packages provide a prompt_filter "lexicon"'):
        registry.build("prompt_filter", "lexicon")


def test_a_plug_in_that_cannot_be_imported_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("broken", "no_such_package.filters:Broken", "safelight.prompt_filter")
    monkeypatch.setattr(registry, "_plugins", lambda kind: {"broken": broken})
    with pytest.raises(
        RegistryError, match=r'prompt_filter "broken" cannot be imported from no_such_package'
    ) as said:
        registry.build("prompt_filter", "broken")
    assert str(said.value).count("\n") == 0
