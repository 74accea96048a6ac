from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from safelight.demo.item import DemoItem
from safelight.demo.page import write_page
from safelight.demo.prompts import Kind
from safelight.policy import Policy

Make = Callable[..., DemoItem]
Write = Callable[..., str]
_VOID = {"meta", "img", "link", "br", "input"}


class _Checker(HTMLParser):
    """Fails on unclosed tags, and collects ids, links and sources."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        assert len(values) == len(attrs), f"an attribute of <{tag}> is there twice"
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.targets += [value for name, value in attrs if name in ("src", "href") and value]
        assert tag != "img" or values.get("alt")
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _checked(page: str) -> _Checker:
    checker = _Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    return checker


@pytest.fixture
def write(tmp_path: Path, storybook: Policy) -> Write:
    def write(*items: DemoItem, title: str = "A kind") -> str:
        kinds = [Kind("kind", title, "About it.", tuple(item.prompt for item in items))]
        write_page(tmp_path / "index.html", kinds, items, storybook, "Model <m>.")
        return (tmp_path / "index.html").read_text("utf-8")

    return write


@pytest.fixture
def all_sorts(item: Make) -> Sequence[DemoItem]:
    return [
        item("a dog", things=("dog",)),
        item("a gun", words=("gun",), asked=True),
        item("a revolver", things=("gun", "dog"), harms=("weapons",)),
        item("a chef with a sword", harms=("violence",)),
        item("a bomb shelter", words=("bomb",)),
    ]


def test_the_page_is_well_formed_and_needs_nothing_else(write: Write, all_sorts: Sequence[DemoItem]) -> None:
    page = write(*all_sorts)
    checker = _checked(page)
    assert all(target.startswith(("data:image/png;base64,", "#p")) for target in checker.targets)
    assert not re.search(r"https?:|@import|<script|<link|url\(", page)
    assert {target[1:] for target in checker.targets if target.startswith("#")} <= set(checker.ids)
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_prompts_are_escaped(write: Write, item: Make) -> None:
    nasty = '<img src=x onerror="alert(1)"> & $prompt \'gun\' "'
    page = write(item(nasty, words=("gun",), why="<b>why</b>"), title="<i>kind</i>")
    _checked(page)
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=&quot;alert(1)&quot;&gt; &amp; $prompt" in page
    assert '<mark class="blamed">gun</mark>' in page
    assert "<b>why" not in page
    assert "<i>kind" not in page
    assert "Model &lt;m&gt;." in page


def test_faults_are_counted_and_linked_at_the_top(write: Write, all_sorts: Sequence[DemoItem]) -> None:
    page = write(*all_sorts)
    top = page[: page.index("<section>")]
    assert '<div class="wrong"><dt>missed: harm was released</dt><dd>1</dd></div>' in top
    assert '<div class="wrong"><dt>over-blocked: harmless and withheld</dt><dd>1</dd></div>' in top
    assert '<a href="#p4">a chef with a sword</a> (missed)' in top
    assert '<a href="#p5">a bomb shelter</a> (over-blocked)' in top
    assert '<article class="missed" id="p4">' in page


def test_without_faults_nothing_is_red_at_the_top(write: Write, item: Make) -> None:
    page = write(item())
    assert 'class="wrong"' not in page
    assert 'class="faults"' not in page


def test_a_withheld_image_says_why_and_is_not_shown_again(
    write: Write, all_sorts: Sequence[DemoItem]
) -> None:
    cards = write(*all_sorts).split("<article ")[1:]
    assert [card.count("<img ") for card in cards] == [2, 1, 1, 2, 1]
    assert "the prompt is not allowed" in cards[1]
    assert "the image is not allowed" in cards[2]


def test_what_was_seen_is_boxed_and_scored_against_its_threshold(write: Write, item: Make) -> None:
    page = write(item("a revolver", things=("gun", "dog"), harms=("weapons",)))
    place = "left:10.0%;top:20.0%;width:50.0%;height:50.0%"
    assert f'<div class="box blamed" style="{place}"><span>gun</span></div>' in page
    assert f'<div class="box" style="{place}"><span>dog</span></div>' in page
    assert '<i class="over" style="width:90%"></i><u style="left:50%"></u>' in page
    assert '0.90<span class="soft"> of 0.50</span>' in page
    assert "drawing 1.2 s · prompt 2.5 ms · image 2.5 ms" in page


def test_a_blocked_request_with_a_harmless_image_says_so(write: Write, item: Make) -> None:
    page = write(item("a gun", words=("gun",), asked=True))
    assert (
        "The prompt asks for weapons, so it was stopped, although this image would have been harmless."
        in page
    )
    assert "<dt>request</dt><dd><em>harmful</em></dd>" in page
    assert "<dt>image</dt><dd>dog: harmless</dd>" in page
