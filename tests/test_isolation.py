"""Filters in worker processes: real ones, which hang, crash and are killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from safelight import registry
from safelight.errors import FilterError, PolicyError
from safelight.guard.guard import Guard
from safelight.policy import Policy
from safelight.screening.isolation import IsolatedFilter
from safelight.screening.screen import Screen
from safelight.types import Finding, Span

LONG_S = 60.0


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The hostile filter as another package brings it."""
    folder = tmp_path_factory.mktemp("site")
    package = folder / "hostile-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: hostile\nVersion: 1.0\n")
    lines = [f"[safelight.{kind}]\nhostile = hostile:Hostile\n" for kind in registry.KINDS]
    (package / "entry_points.txt").write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        registry._plugins.cache_clear()
        yield
    registry._plugins.cache_clear()
    for kind in registry.KINDS:
        registry._factories.pop((kind, "hostile"), None)


@pytest.fixture(scope="module")
def hostile(_installed: None) -> IsolatedFilter:
    return IsolatedFilter("prompt_filter", "hostile", "mine", {})


def _pid(isolated: IsolatedFilter) -> int:
    ((found,),) = isolated.find(["who"])  # type: ignore[misc]
    return int(found.label)


def _gone(pid: int) -> bool:
    """Return whether the process ends soon and leaves no zombie."""
    end = time.monotonic() + LONG_S
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def test_what_it_finds_and_says_of_itself_comes_through_the_pipe(hostile: IsolatedFilter) -> None:
    from hostile import Hostile

    here = Hostile("mine")
    assert (hostile.name, hostile.version, hostile.labels) == ("mine", here.version, here.labels)
    assert hostile.find(["everything", "a cat"]) == here.find(["everything", "a cat"])
    assert hostile.find([]) == []
    (torn,) = hostile.find(["torn"])
    assert isinstance(torn, FilterError)
    assert str(torn) == "it is torn."
    assert _pid(hostile) not in (os.getpid(), os.getppid())


def test_options_may_be_paths(tmp_path: Path) -> None:
    words = tmp_path / "own.toml"
    words.write_text('version = "1"\n[languages.en]\ngun = ["blaster"]\n')
    lexicon = IsolatedFilter("prompt_filter", "lexicon", "own", {"words": words})
    ((found,),) = lexicon.find(["a blaster"])  # type: ignore[misc]
    assert (found.label, found.evidence) == ("gun", Span(2, 9, "blaster"))


@pytest.mark.parametrize("kind", ["image", "pair"])
def test_images_arrive_as_they_are(hostile: IsolatedFilter, kind: str) -> None:
    image = Image.new("RGB", (3, 2), "blue")
    image.putpixel((1, 0), (1, 2, 3))
    image.info = {"frame": 4, "sha256": "ab", "icc_profile": b"left out"}
    prompt = "a cat \ud83d 🐈"
    (seen,), (grey,) = hostile.find([(prompt, image) if kind == "pair" else image, image.convert("L")])
    said = f"{prompt if kind == 'pair' else ''} RGB (3, 2) (1, 2, 3) [('frame', 4), ('sha256', 'ab')]"
    assert isinstance(seen, Finding)
    assert seen.label == said
    assert isinstance(grey, Finding)


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("crash", r"its process died \(SIGSEGV\)"),
        ("exit", r"its process died \(exit code 4\)"),
    ],
)
def test_a_filter_that_crashes_fails_and_is_started_again(
    hostile: IsolatedFilter, prompt: str, reason: str
) -> None:
    before = _pid(hostile)
    with pytest.raises(FilterError, match=reason):
        hostile.find_within([prompt], LONG_S)
    assert _gone(before)
    assert _pid(hostile) != before


def test_a_filter_that_hangs_is_killed_and_started_again(hostile: IsolatedFilter) -> None:
    before = _pid(hostile)
    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
        hostile.find_within(["hang"], 0.05)
    assert _gone(before)
    assert hostile.find_within(["a cat"], LONG_S) == [[]]


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [("raise", "ZeroDivisionError"), ("nonsense", "contains str, which is not a finding")],
)
def test_a_filter_that_merely_fails_goes_on(hostile: IsolatedFilter, prompt: str, reason: str) -> None:
    before = _pid(hostile)
    with pytest.raises(FilterError, match=reason):
        hostile.find([prompt])
    assert _pid(hostile) == before


def test_what_it_prints_breaks_no_answer(hostile: IsolatedFilter) -> None:
    assert hostile.find(["print", "everything"])[0] == []


def test_calls_of_several_threads_take_turns(hostile: IsolatedFilter) -> None:
    prompts = [["a cat"] * number + ["torn"] for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda each: hostile.find_within(each, LONG_S), prompts))
    assert [len(answer) for answer in answers] == [len(each) for each in prompts]
    assert all(answer[:-1] == [[]] * (len(answer) - 1) for answer in answers)


def test_nothing_is_left_of_a_filter_that_nobody_uses() -> None:
    isolated = IsolatedFilter("prompt_filter", "never", "never", {})
    process = isolated._workers[0]._process
    threads = threading.active_count()
    del isolated
    assert process.returncode is not None
    assert threading.active_count() <= threads


@pytest.mark.parametrize(
    ("component", "options", "reason"),
    [
        ("lexicon", {"words": "nosuch"}, 'there is no word list "nosuch"'),
        ("hostile", {"wrong": "leave"}, r"its process died \(exit code 3\)"),
    ],
)
def test_a_filter_that_cannot_be_built_says_why(component: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(FilterError, match=reason):
        IsolatedFilter("prompt_filter", component, "mine", options)


def test_a_worker_that_is_busy_does_not_outlive_a_program_that_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys, threading\n"
        f"sys.path[:] = {sys.path!r}\n"
        "from safelight.screening.isolation import IsolatedFilter\n"
        "isolated = IsolatedFilter('prompt_filter', 'hostile', 'mine', {})\n"
        "print(isolated.find(['who'])[0][0].label, flush=True)\n"
        "threading.Thread(target=isolated.find, args=(['hang'],), daemon=True).start()\n"
        "input()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    with subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        worker = int(parent.stdout.readline())
        parent.communicate("\n")
    assert parent.returncode == -9
    assert _gone(worker)


ISOLATED = """
[filters.options.hostile]
isolation = "process"
"""


@pytest.fixture
def screen(write_policy: Callable[..., Path]) -> Screen:
    path = write_policy(
        ('prompt = ["lexicon"]', 'prompt = ["lexicon", "hostile"]'),
        ("[filters.options.lexicon]", f"{ISOLATED}\n[filters.options.lexicon]"),
        ("timeout_s = 10", "timeout_s = 6"),
    )
    return Guard.from_policy(path)._screens["prompt"]


def test_late_and_crashing_items_of_a_batch_block_themselves_alone(screen: Screen) -> None:
    prompts = ["crash", "hang", "a cat", "a gun", "raise", "a dog"]
    verdicts = screen(prompts, "prompt")
    actions = [verdict.action for verdict in verdicts]
    assert actions == ["block", "block", "allow", "block", "block", "allow"]
    assert "its process died (SIGSEGV)" in verdicts[0].reasons[0]
    assert "no answer within" in verdicts[1].reasons[0]
    assert verdicts[3].reasons == ()
    assert "ZeroDivisionError" in verdicts[4].reasons[0]
    assert isinstance(screen.filters["hostile"], IsolatedFilter)
    assert verdicts[2].filters["hostile"].version == "7"


@pytest.mark.parametrize("isolation", ['"procces"', "true", "1"])
def test_another_isolation_is_refused(write_policy: Callable[..., Path], isolation: str) -> None:
    path = write_policy(("[filters.options.lexicon]", f"[filters.options.lexicon]\nisolation = {isolation}"))
    with pytest.raises(PolicyError, match='the isolation of "lexicon" is neither "thread" nor "process"'):
        Policy.load(path)


def test_options_of_an_isolated_filter_are_checked_before_it_is_started(
    write_policy: Callable[..., Path],
) -> None:
    lines = '[filters.options.lexicon]\nisolation = "process"\nwrods = "storybook"'
    with pytest.raises(registry.RegistryError, match="takes the options"):
        Guard.from_policy(write_policy(("[filters.options.lexicon]", lines)))
