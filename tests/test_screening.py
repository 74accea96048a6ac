from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from safelight.concurrency.deadline import Deadline
from safelight.errors import DeadlineError, FilterError, RequestCancelledError, RequestError
from safelight.filters.constant import Always, Never
from safelight.guard.guard import Guard
from safelight.policy import Policy
from safelight.screening.filter_threads import MAX_LATE
from safelight.screening.screen import ImageScreen, Screen
from safelight.types import Finding, Verdict


class Broken:
    """A filter that answers with whatever ``answer`` gives."""

    name, version = "broken", "0"

    def __init__(self, answer: Callable[[list[Any]], Any]) -> None:
        self._answer = answer

    def find(self, items: list[Any]) -> Any:
        return self._answer(items)


def _raise(items: list[Any]) -> Any:
    raise RuntimeError("out of memory")


class Unspeakable(Exception):  # noqa: N818 - it is no error that anybody should make
    """Fails even to say what went wrong."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def _unspeakable(items: list[Any]) -> Any:
    raise Unspeakable


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (_raise, "RuntimeError: out of memory"),
        (lambda items: [[Finding("violence", float("nan"), "broken")] for _ in items], r"not in \[0, 1\]"),
        (lambda items: [[Finding("violence", 1.5, "broken")] for _ in items], r"not in \[0, 1\]"),
        (lambda items: [[]] * (len(items) + 1), "2 answers for 1 items"),
        (lambda items: [], "0 answers for 1 items"),
        (lambda items: None, "NoneType, not a list of findings"),
        (lambda items: [["violence"] for _ in items], "contains str, which is not a finding"),
        (lambda items: [None for _ in items], "NoneType, not a list of findings"),
        (
            lambda items: [[Finding("Violence", 1.0, "broken")] for _ in items],
            'spelt "violence" in the policy',
        ),
        (_unspeakable, "failed \\(Unspeakable\\)"),
    ],
)
def test_a_filter_that_fails_blocks_and_says_why(policy: Policy, answer: Any, reason: str) -> None:
    screen = Screen("prompt", policy, [Never, lambda: Broken(answer)])
    for verdict in screen(["a cat", "a dog"], "prompt"):
        assert verdict.action == "block"
        assert len(verdict.reasons) == 1
        assert re.search(reason, verdict.reasons[0])
        assert verdict.filters["broken"].problem == verdict.reasons[0]
        assert verdict.filters["never"].problem is None


def test_an_item_that_cannot_be_looked_at_is_blocked_alone(policy: Policy) -> None:
    screen = Screen("prompt", policy, [lambda: Broken(lambda items: [FilterError("it is torn."), []])])
    torn, whole = screen(["a cat", "a dog"], "prompt")
    assert (torn.action, whole.action) == ("block", "allow")
    assert torn.reasons == ('the filter "broken" could not process it: it is torn.',)
    assert whole.filters["broken"].problem is None


def test_a_filter_that_hangs_is_left_behind(write_policy: Callable[..., Path], hang: Any) -> None:
    policy = Policy.load(write_policy(("timeout_s = 10", "timeout_s = 0.05")))
    screen = Screen("prompt", policy, [lambda: Broken(hang)])
    (verdict,) = screen(["a cat"], "prompt")
    assert verdict.action == "block"
    assert "no answer within 0.05 s" in verdict.reasons[0]
    assert verdict.elapsed_ms < 9000


@pytest.fixture
def hang() -> Iterator[Callable[[Any], None]]:
    """Never comes back before the test has ended."""
    end = threading.Event()
    yield lambda items: end.wait() and None
    end.set()


def test_one_bad_item_of_a_batch_blocks_itself_alone(policy: Policy) -> None:
    def answer(items: list[str]) -> list[list[Finding]]:
        if "a bad cat" in items:
            raise RuntimeError("it is bad")
        return [[Finding("gun", 1.0, "broken")] if "gun" in item else [] for item in items]

    items = ["a cat", "a bad cat", "a gun", "a dog"]
    verdicts = Screen("prompt", policy, [lambda: Broken(answer)])(items, "prompt")
    assert [verdict.action for verdict in verdicts] == ["allow", "block", "block", "allow"]
    assert [len(verdict.reasons) for verdict in verdicts] == [0, 1, 0, 0]
    assert "RuntimeError: it is bad" in verdicts[1].reasons[0]


def test_one_late_item_of_a_batch_blocks_itself_alone(write_policy: Callable[..., Path], hang: Any) -> None:
    def answer(items: list[str]) -> list[list[Finding]]:
        if "a slow cat" in items:
            hang(items)
        return [[] for _ in items]

    policy = Policy.load(write_policy(("timeout_s = 10", "timeout_s = 2")))
    items = ["a slow cat", "a cat", "a dog", "a cow"]
    verdicts = Screen("prompt", policy, [lambda: Broken(answer)])(items, "prompt")
    assert [verdict.action for verdict in verdicts] == ["block", "allow", "allow", "allow"]
    assert "no answer within" in verdicts[0].reasons[0]


def test_a_filter_that_is_always_late_costs_a_batch_twice_its_time_at_most(
    write_policy: Callable[..., Path], hang: Any
) -> None:
    calls: list[Any] = []

    def answer(items: list[str]) -> Any:
        calls.append(items)
        hang(items)

    policy = Policy.load(write_policy(("timeout_s = 10", "timeout_s = 0.2")))
    started = time.monotonic()
    verdicts = Screen("prompt", policy, [lambda: Broken(answer)])(["a cat"] * 16, "prompt")
    assert {verdict.action for verdict in verdicts} == {"block"}
    assert "earlier calls of it have not returned" in verdicts[-1].reasons[0]
    assert len(calls) <= MAX_LATE
    assert time.monotonic() - started < 10


def test_filters_stand_by_themselves(write_policy: Callable[..., Path], hang: Any) -> None:
    """One that is stuck takes no thread from another."""
    policy = Policy.load(write_policy(("timeout_s = 10", "timeout_s = 0.02")))
    stuck = Screen("prompt", policy, [lambda: Broken(hang)])
    for _ in range(10):
        assert stuck(["a cat"], "prompt")[0].action == "block"
    works = Policy.load(write_policy())
    assert Screen("prompt", works, [Never])(["a cat"], "prompt")[0].action == "allow"


def test_screens_that_share_a_filter_share_its_threads(write_policy: Callable[..., Path], hang: Any) -> None:
    policy = Policy.load(write_policy(("timeout_s = 10", "timeout_s = 0.02")))
    first = Screen("prompt", policy, [lambda: Broken(hang)])
    others = [Screen("prompt", policy, first.filter_set) for _ in range(MAX_LATE + 1)]
    reasons = [screen(["a cat"], "prompt")[0].reasons[0] for screen in others]
    assert "no answer within" in reasons[0]
    assert "earlier calls of it have not returned" in reasons[-1]
    alone = Screen("prompt", policy, [lambda: Broken(hang)])
    assert "no answer within" in alone(["a cat"], "prompt")[0].reasons[0]


def test_a_request_without_time_gets_no_verdict(policy: Policy, hang: Any, image: Image.Image) -> None:
    prompts, images = (
        Screen("prompt", policy, [lambda: Broken(hang)]),
        ImageScreen("image", policy, [lambda: Broken(hang)]),
    )
    for screen, items in ((prompts, ["a cat", "a dog"]), (images, [image])):
        with pytest.raises(DeadlineError):
            screen(items, "prompt", deadline=Deadline(0.05))
        with pytest.raises(DeadlineError):
            screen.find(items, deadline=Deadline(0.05))
        cancelled = Deadline()
        cancelled.cancel()
        with pytest.raises(RequestCancelledError):
            screen(items, "prompt", deadline=cancelled)


def test_time_that_is_left_changes_nothing(policy: Policy, image: Image.Image) -> None:
    screen = ImageScreen("image", policy, [lambda: Always("gun")])
    assert screen([image], "image", deadline=Deadline(60))[0].action == "block"
    assert screen.find([image], deadline=Deadline(60))[0][0].findings


@pytest.mark.parametrize("version", [property(_raise), None, 2.0])
def test_a_filter_that_tells_no_version_blocks(policy: Policy, version: Any) -> None:
    nameless = type("Nameless", (Never,), {"version": version, "__init__": lambda self: None})
    (verdict,) = Screen("prompt", policy, [nameless])(["a cat"], "prompt")
    assert verdict.action == "block"
    assert 'the filter "never" has no valid version' in verdict.reasons[0]


@pytest.mark.parametrize("build", [lambda: 1 // 0, object, lambda: Always(name=7)])  # type: ignore[arg-type]
def test_a_filter_that_cannot_be_built_is_an_error_with_a_reason(policy: Policy, build: Any) -> None:
    with pytest.raises(FilterError, match="a filter cannot be built"):
        Screen("prompt", policy, [build])(["a cat"], "prompt")


def test_a_policy_that_fails_blocks_the_item_it_fails_at(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Policy.judge

    def fails_at_guns(self: Policy, stage: Any, findings: Any, **about: Any) -> Verdict:
        if any(finding.label == "gun" for finding in findings):
            raise KeyError("gun")
        return judge(self, stage, findings, **about)

    def guns(items: list[str]) -> list[list[Finding]]:
        return [[Finding("gun", 0.0, "broken")] if "gun" in item else [] for item in items]

    monkeypatch.setattr(Policy, "judge", fails_at_guns)
    asked: list[str] = []

    def note(items: list[str]) -> list[list[Finding]]:
        asked.extend(items)
        return [[] for _ in items]

    class Second(Broken):
        name = "second"

    screen = Screen("prompt", policy, [lambda: Broken(guns), lambda: Second(note)])
    gun, cat = screen(["a gun", "a cat"], "prompt")
    assert (gun.action, cat.action, asked) == ("block", "allow", ["a cat"])
    assert gun.reasons == ("the policy failed (KeyError: 'gun'), so this is blocked.",)
    assert (gun.subject, gun.index, cat.index) == ("prompt", 0, 1)


def _paint(image: Image.Image) -> None:
    ImageDraw.Draw(image).rectangle((0, 0, 99, 99), "red")
    image.paste("red", (0, 0, *image.size))
    image.putpixel((0, 0), (255, 0, 0))
    image.frombytes(Image.new("RGB", image.size, "red").tobytes())
    image.info["frame"] = 7
    image.thumbnail((2, 2))


@pytest.mark.parametrize("stage", ["image", "pair"])
def test_what_a_filter_paints_nobody_else_sees(policy: Policy, image: Image.Image, stage: Any) -> None:
    seen: list[tuple[bytes, Any]] = []

    def look(items: list[Any]) -> list[list[Finding]]:
        for item in items:
            shown = item[1] if stage == "pair" else item
            seen.append((shown.tobytes(), shown.info["frame"]))
            _paint(shown)
            assert shown.getpixel((0, 0)) == (255, 0, 0)
        if len(seen) == 2:
            raise RuntimeError("asked again, it sees the same")
        return [[] for _ in items]

    class Second(Broken):
        name = "second"

    before = image.tobytes()
    screen = ImageScreen(stage, policy, [lambda: Broken(look), lambda: Second(look)])
    items = [("a cat", image)] * 2 if stage == "pair" else [image] * 2
    assert {verdict.action for verdict in screen(items, "image")} == {"allow"}
    assert len(seen) == 6
    assert set(seen) == {(before, 0)}
    assert image.tobytes() == before


def test_pixels_cannot_be_set_behind_the_back_of_the_others(policy: Policy, image: Image.Image) -> None:
    def paint(items: list[Image.Image]) -> Any:
        pixels: Any = items[0].load()
        pixels[0, 0] = (255, 0, 0)

    (verdict,) = ImageScreen("image", policy, [lambda: Broken(paint)])([image], "image")
    assert "failed (ValueError" in verdict.reasons[0]


def test_a_call_screens_a_thousand_items_at_most(guard: Guard, image: Image.Image) -> None:
    with pytest.raises(RequestError, match="at most 1,000 images, not 1,001; make several"):
        guard.screen_images([image] * 1001)
    with pytest.raises(RequestError, match="at most 1,000 prompts, not 1,001; make several"):
        guard.screen_prompts(["a cat"] * 1001)
    with pytest.raises(RequestError, match="at most 1,000 pairs"):
        guard.screen_pairs([("a cat", image)] * 1001)


def test_filters_are_built_once_whoever_needs_them_first(policy: Policy) -> None:
    built: list[Never] = []
    together = threading.Barrier(16)

    def build() -> Never:
        time.sleep(0.05)
        built.append(Never())
        return built[-1]

    screen = Screen("prompt", policy, [build])

    def ask() -> Any:
        together.wait()
        return screen(["a cat"], "prompt")[0].action

    with ThreadPoolExecutor(16) as pool:
        actions = [done.result() for done in [pool.submit(ask) for _ in range(16)]]
    assert actions == ["allow"] * 16
    assert len(built) == 1


def test_an_error_in_building_is_everybodys_and_tried_again(policy: Policy) -> None:
    tries: list[int] = []
    together = threading.Barrier(4)

    def build() -> Never:
        tries.append(1)
        if len(tries) == 1:
            time.sleep(0.2)
            raise FilterError("there is no model.")
        return Never()

    screen = Screen("prompt", policy, [build])

    def load() -> str:
        together.wait()
        try:
            screen.load()
        except FilterError as error:
            return str(error)
        return "loaded"

    with ThreadPoolExecutor(4) as pool:
        said = [done.result() for done in [pool.submit(load) for _ in range(4)]]
    assert "there is no model." in said
    assert screen(["a cat"], "prompt")[0].action == "allow"
    assert len(tries) == 2


def test_screening_stops_at_the_first_block(policy: Policy) -> None:
    asked: list[list[str]] = []

    def note(items: list[str]) -> list[list[Finding]]:
        asked.append(items)
        return [[] for _ in items]

    class Guns:
        name, version = "guns", "1"

        def find(self, items: list[str]) -> list[list[Finding]]:
            return [[Finding("gun", 1.0, self.name)] if "gun" in item else [] for item in items]

    verdicts = Screen("prompt", policy, [Guns, lambda: Broken(note)])(["a gun", "a cat"], "prompt")
    assert asked == [["a cat"]]
    assert [verdict.action for verdict in verdicts] == ["block", "allow"]
    assert [list(verdict.filters) for verdict in verdicts] == [["guns"], ["guns", "broken"]]


def test_all_that_is_found_is_told_whatever_would_be_blocked(policy: Policy) -> None:
    screen = Screen("prompt", policy, [lambda: Always("first", "gun"), lambda: Always("second", "bomb")])
    (known,), (found,) = screen.find(["", "a cat"], ["it is empty.", None])
    assert [each.label for each in found.findings] == ["gun", "bomb"]
    assert set(found.runs) == {"first", "second"}
    assert (known.findings, known.problem) == ((), "it is empty.")


def test_frames_are_told_apart_and_all_looked_at(policy: Policy, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    screen = ImageScreen("image", policy, [lambda: Always("gun")])
    film, broken = screen.find([tmp_path / "a.gif", b"no image"])
    assert [each.frame for each in film] == [0, 1, 2]
    assert all(each.findings for each in film)
    assert "cannot be read" in (broken[0].problem or "")


def test_filters_of_one_class_stay_apart(policy: Policy) -> None:
    filters = [lambda: Always("first", "weapons", 0.2), lambda: Always("second", "weapons", 0.5)]
    (verdict,) = Screen("prompt", policy, filters)(["a cat"], "prompt")
    assert list(verdict.filters) == ["first", "second"]
    assert [finding.filter for finding in verdict.findings] == ["first", "second"]
    with pytest.raises(FilterError, match="same name"):
        Screen("prompt", policy, [Never, Never])(["a cat"], "prompt")


def test_a_stage_without_filters_is_an_error(policy: Policy) -> None:
    with pytest.raises(FilterError, match='policy "test" has no pair filter; list one'):
        Screen("pair", policy, [])(["a cat"], "image")


def test_a_known_problem_blocks_without_running_anything(policy: Policy) -> None:
    screen = Screen("prompt", policy, [Never])
    bad, good = screen(["", "a cat"], "prompt", problems=["it is empty.", None])
    assert (bad.action, bad.reasons, bad.filters) == ("block", ("it is empty.",), {})
    assert good.action == "allow"
