"""One record a request, for the log and for observers, which change nothing."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from safelight.audit.request_log import JsonFormatter, RequestLog
from safelight.errors import PolicyError, PromptError
from safelight.guard.guard import Guard
from safelight.policy import Policy

STEPS: dict[str, Any] = {"num_inference_steps": 2}
LOGGER = "safelight.request"


def _logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [entry.record for entry in caplog.records if entry.name == LOGGER and hasattr(entry, "record")]


def test_every_request_is_one_line(guard: Guard, pipe: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    image = Image.new("RGB", (8, 8))
    result = guard.generate(pipe, "a cat", seed=1, **STEPS)
    guard.screen_prompts(["a cat", "a gun"])
    guard.screen_images([image])
    with pytest.raises(PromptError):
        guard.generate(pipe, "")
    records = _logged(caplog)
    events = [(record["event"], record["outcome"], record["action"]) for record in records]
    assert events == [
        ("generate", "completed", "allow"),
        ("screen_prompts", "completed", "block"),
        ("screen_images", "completed", "allow"),
        ("generate", "error", None),
    ]
    assert records[0]["request_id"] == result.request_id
    assert len({record["request_id"] for record in records}) == 4
    assert all(record["elapsed_ms"] > 0 and record["policy"] == "test 1" for record in records)
    assert [json.loads(entry.getMessage()) for entry in caplog.records] == records
    assert {entry.levelname for entry in caplog.records} == {"INFO"}


def test_nothing_is_printed_and_nothing_computed_while_nobody_listens(
    guard: Guard,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, LOGGER)
    monkeypatch.setattr(guard.request_log._trail, "record", lambda *_: 1 / 0)
    guard.screen_prompts(["a gun"])
    assert capfd.readouterr() == ("", "")


def test_observers_get_their_own_copies(guard: Guard) -> None:
    seen: list[dict[str, Any]] = []

    def spoils(record: dict[str, Any]) -> None:
        record["filters"].clear()
        record.clear()

    guard.observe(spoils)
    guard.observe(seen.append)
    guard.screen_prompts(["a gun"])
    (record,) = seen
    assert record["categories"] == {"weapons": "block"}
    assert list(record["filters"]["prompt"]) == ["lexicon"]


def test_requests_of_many_threads_are_told_apart(guard: Guard) -> None:
    seen: list[dict[str, Any]] = []
    guard.observe(seen.append)
    prompts = [f"{thing} number {i}" for i in range(20) for thing in ("a cat", "a gun")]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda prompt: guard.screen_prompts([prompt]), prompts))
    said = {record["prompts"][0]["sha256"]: record["action"] for record in seen}
    assert len({record["request_id"] for record in seen}) == 40
    for prompt in prompts:
        expected = "block" if "gun" in prompt else "allow"
        assert said[sha256(prompt.encode()).hexdigest()] == expected


def test_an_observer_that_fails_changes_nothing(
    guard: Guard, pipe: Any, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[dict[str, Any]] = []

    def fails(record: dict[str, Any]) -> None:
        raise OSError("the disk is full")

    guard.observe(fails)
    guard.observe(seen.append)
    assert [verdict.action for verdict in guard.screen_prompts(["a cat", "a gun"])] == ["allow", "block"]
    with pytest.raises(PromptError, match="empty"):
        guard.generate(pipe, "")
    assert len(seen) == 2
    assert [entry.getMessage() for entry in caplog.records] == [
        f"the observer {fails.__qualname__} failed: OSError: the disk is full"
    ] * 2
    assert not any(entry.exc_info for entry in caplog.records)


def test_a_record_that_fails_loses_no_request(
    guard: Guard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> Any:
        raise ValueError("a zanzibar")

    guard.observe(fails)
    monkeypatch.setattr(guard.request_log._trail, "record", fails)
    assert guard.screen_prompts(["a gun"])[0].action == "block"
    assert "was not recorded: ValueError." in caplog.text
    assert "zanzibar" not in caplog.text


def test_another_policy_keeps_the_observers(guard: Guard, policy: Policy) -> None:
    seen: list[dict[str, Any]] = []
    guard.observe(seen.append)
    other = guard.with_policy(policy.model_copy(update={"version": "2"}))
    other.screen_prompts(["a cat"])
    assert [record["policy"] for record in seen] == ["test 2"]
    assert guard.request_log.under(None) is guard.request_log


def test_an_interrupted_request_is_recorded(policy: Policy) -> None:
    seen: list[dict[str, Any]] = []
    log = RequestLog(policy, [seen.append])
    with pytest.raises(KeyboardInterrupt), log.watch("generate", "a cat"):
        raise KeyboardInterrupt
    assert seen[0]["error"] == {"type": "KeyboardInterrupt"}


def test_a_guard_without_its_key_does_not_start(write_policy: Callable[..., Path]) -> None:
    keyed = write_policy(("[filters]", '[log]\nkey_variable = "SAFELIGHT_NO_SUCH_KEY"\n\n[filters]'))
    with pytest.raises(PolicyError, match="SAFELIGHT_NO_SUCH_KEY"):
        Guard.from_policy(keyed)


def test_json_lines(guard: Guard, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    guard.screen_prompts(["a gun"])
    formatter = JsonFormatter()
    (record,) = caplog.records
    line = json.loads(formatter.format(record))
    assert (line["level"], line["logger"], line["action"]) == ("INFO", LOGGER, "block")
    try:
        raise ValueError("wrong")
    except ValueError:
        other = logging.LogRecord("other", logging.ERROR, "", 1, "said %s\n", ("this",), sys.exc_info())
    line = json.loads(formatter.format(other))
    assert (line["level"], line["message"]) == ("ERROR", "said this\n")
    assert "ValueError: wrong" in line["exception"]
    assert "\n" not in formatter.format(other)
