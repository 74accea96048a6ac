"""Audit records prove what ran, and hold no text."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import logging.handlers
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from safelight.audit.audit_log import SCHEMA, AuditTrail, ObservedRequest, audit_record, image_sha256
from safelight.audit.request_log import JsonFormatter
from safelight.errors import FilterError, PolicyError
from safelight.filters.constant import Never
from safelight.guard.guard import Guard
from safelight.policy import Log, Policy
from safelight.types import Finding, Result, Span, Verdict

STEPS: dict[str, Any] = {"num_inference_steps": 2}
CANARY = "zanzibar"
TEXT = f"a {CANARY} with a cat"


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_record_says_what_ran_and_what_became_of_it(guard: Guard, pipe: Any) -> None:
    options = {"negative_prompt": "a dog", **STEPS}
    result = guard.generate(pipe, ["a cat", "a gun"], n=2, seed=7, **options)
    record = audit_record(result, ["a cat", "a gun"], options)
    assert json.loads(json.dumps(record)) == record
    assert (record["schema"], record["event"], record["policy"]) == (SCHEMA, "generate", "test 1")
    assert (record["outcome"], record["error"], record["action"]) == ("completed", None, "block")
    assert record["request_id"] == result.request_id
    assert abs(datetime.fromisoformat(record["time"]) - datetime.now(UTC)) < timedelta(minutes=5)
    assert record["prompts"] == [{"sha256": _sha(text), "characters": 5} for text in ("a cat", "a gun")]
    assert record["inputs"] == {"negative_prompt": [{"sha256": _sha("a dog"), "characters": 5}]}
    assert record["filters"] == {"prompt": {"lexicon": _version(guard)}, "image": {"never": "1"}}
    assert record["categories"] == {"weapons": "block"}
    assert (record["seed"], record["images_per_prompt"], record["model"]) == (7, 2, result.model)
    assert [(i["index"], i["seed"], i["action"]) for i in record["images"]] == [
        (0, 7, "allow"), (1, 8, "allow"), (2, 9, "block"), (3, 10, "block"),
    ]  # fmt: skip
    assert [image["sha256"] for image in record["images"]] == [*map(image_sha256, result.images), None, None]
    (blocked,) = [verdict for verdict in record["verdicts"] if verdict["action"] == "block"]
    weapons = {"score": 1.0, "action": "block", "threshold": 0.8, "labels": ["gun"]}
    assert blocked["categories"] == {"weapons": weapons}
    assert (blocked["stage"], blocked["index"], blocked["failed_closed"]) == ("prompt", 1, False)
    assert set(record["stage_ms"]) == set(result.elapsed_ms)


def _version(guard: Guard) -> str:
    return guard.versions()["prompt"]["lexicon"]


def test_an_image_has_the_same_hash_in_every_lossless_file(image: Image.Image) -> None:
    header = b"RGB 32x32\n"
    assert image_sha256(image) == hashlib.sha256(header + image.tobytes()).hexdigest()
    for kind in ("PNG", "TIFF", "BMP"):
        buffer = BytesIO()
        image.save(buffer, kind)
        assert image_sha256(Image.open(buffer)) == image_sha256(image)
    # The same bytes in another shape are another image.
    assert image_sha256(Image.new("L", (2, 3))) != image_sha256(Image.new("L", (3, 2)))


def test_hashes_take_a_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(key_variable="SAFELIGHT_TEST_KEY")
    with pytest.raises(PolicyError, match=r"\$SAFELIGHT_TEST_KEY, which is not set"):
        AuditTrail(log)
    monkeypatch.setenv("SAFELIGHT_TEST_KEY", "secret")
    (prompt,) = AuditTrail(log).record(ObservedRequest("generate", "a cat"))["prompts"]
    assert prompt == {
        "hmac_sha256": hmac.new(b"secret", b"a cat", "sha256").hexdigest(),
        "characters": 5,
    }


class Quotes:
    """Reports, raises or answers with the prompt itself; sees nothing in images."""

    name, version = "quotes", "1"

    def __init__(self, way: str) -> None:
        self.way = way

    def find(self, items: Sequence[Any]) -> Sequence[Any]:
        texts = [item if isinstance(item, str) else item[0] for item in items]
        if self.way == "raises":
            raise ValueError(f"cannot read {texts}")
        if self.way == "cannot look":
            return [FilterError(f"cannot read {text}") for text in texts]
        spans = [Span(0, len(text), text) for text in texts]
        labels = texts if self.way == "names" else ["gun"] * len(texts)
        return [[Finding(name, 1.0, self.name, s)] for name, s in zip(labels, spans, strict=True)]


def _raise_with(text: str) -> Any:
    def pipe(**_: Any) -> Any:
        raise RuntimeError(f"out of memory for {text}")

    return pipe


class Caught:
    """Everything that is logged below safelight, and every record that an observer gets, as text."""

    def __init__(self, guard: Guard) -> None:
        self.handler = logging.handlers.BufferingHandler(10**6)
        self.records: list[dict[str, Any]] = []
        guard.observe(self.records.append)
        guard.observe(self._fails)

    def _fails(self, record: Any) -> None:
        raise ValueError(f"cannot store {record}") from sys.exc_info()[1]

    def __enter__(self) -> Caught:
        logging.getLogger("safelight").addHandler(self.handler)
        logging.getLogger("safelight").setLevel(logging.DEBUG)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("safelight").removeHandler(self.handler)
        logging.getLogger("safelight").setLevel(logging.NOTSET)

    def text(self) -> str:
        formatters = (JsonFormatter(), logging.Formatter("%(message)s %(record)s", defaults={"record": ""}))
        lines = [formatter.format(entry) for formatter in formatters for entry in self.handler.buffer]
        return "\n".join([*lines, json.dumps(self.records)])


WAYS = ("reports", "names", "raises", "cannot look")


@pytest.mark.parametrize("prompts", [False, True])
@pytest.mark.parametrize("stage", ["prompt", "pair"])
@pytest.mark.parametrize("way", WAYS)
def test_no_text_gets_into_a_record(policy: Policy, pipe: Any, stage: str, way: str, prompts: bool) -> None:
    policy = policy.model_copy(update={"log": Log(prompts=prompts)})
    filters: Any = {"prompt": [Never], "image": [Never]}
    guard = Guard(policy, {**filters, stage: [*filters.get(stage, ()), lambda: Quotes(way)]})
    image = Image.new("RGB", (8, 8))
    with Caught(guard) as caught:
        result = guard.generate(pipe, TEXT, negative_prompt=TEXT, **STEPS)
        if stage == "prompt":
            guard.screen_prompts([TEXT])
        else:
            guard.screen_pairs([(TEXT, image)])
    assert len(caught.records) == 2
    assert CANARY in json.dumps(result.to_dict()) or way == "names"
    assert (CANARY in caught.text()) is prompts
    assert _sha(TEXT) in caught.text()
    assert (CANARY in json.dumps(audit_record(result, TEXT, log=policy.log))) is prompts


@pytest.mark.parametrize(
    "call",
    [
        lambda guard, pipe: guard.generate(_raise_with(TEXT), TEXT),
        lambda guard, pipe: guard.generate(pipe, TEXT, n=0),
        lambda guard, pipe: guard.generate(pipe, TEXT + "\x00"),
        lambda guard, pipe: guard.generate(pipe, [TEXT, 3]),
        lambda guard, pipe: guard.generate(pipe, TEXT, prompt_embeds=TEXT),
        lambda guard, pipe: guard.generate(pipe, "a cat", negative_prompt=[TEXT, "\x00"]),
        lambda guard, pipe: guard.screen_prompts(TEXT),
        lambda guard, pipe: guard.screen_images(TEXT),
        lambda guard, pipe: guard.screen_pairs([TEXT]),
        lambda guard, pipe: guard.wrap(_raise_with(TEXT))(prompt=TEXT),
    ],
)
def test_no_text_gets_into_the_record_of_an_error(
    guard: Guard, pipe: Any, call: Callable[[Guard, Any], Any]
) -> None:
    with Caught(guard) as caught:
        with pytest.raises(Exception) as error:  # noqa: PT011 - of many kinds
            call(guard, pipe)
        text = caught.text()
    (record,) = caught.records
    assert (record["outcome"], record["action"]) == ("error", None)
    assert record["error"] == {"type": type(error.value).__name__}
    assert CANARY not in text


def test_with_the_policys_consent_a_record_has_the_texts(policy: Policy, pipe: Any) -> None:
    trail = AuditTrail(Log(prompts=True))
    record = trail.record(ObservedRequest("generate", TEXT, error=ValueError(TEXT)))
    assert record["prompts"] == [{"sha256": _sha(TEXT), "characters": len(TEXT), "text": TEXT}]
    assert record["error"] == {"type": "ValueError", "message": TEXT}


def test_names_of_arguments_are_cut_to_names(policy: Policy) -> None:
    guard = Guard(policy, {"prompt": [Never]})
    (verdict,) = guard.screen_prompts(["a cat"])
    nested = Verdict(**{**_fields(verdict), "subject": f"cross_attention_kwargs.a {CANARY}"})
    request = ObservedRequest(
        "generate", "a cat", {f"a {CANARY}": "text", "x" * 1000: "text"}, verdicts=[nested]
    )
    record = AuditTrail(Log()).record(request)
    assert record["verdicts"][0]["subject"] == "cross_attention_kwargs"
    assert list(record["inputs"]) == ["a", "x" * 64]


def _fields(verdict: Verdict) -> dict[str, Any]:
    return {name: getattr(verdict, name) for name in Verdict.__dataclass_fields__}


@settings(max_examples=25, derandomize=True, deadline=None)
@given(prompts=st.text() | st.lists(st.text() | st.none() | st.integers() | st.binary()))
def test_every_request_has_a_record(prompts: Any) -> None:
    for log in (Log(), Log(prompts=True)):
        record = AuditTrail(log).record(ObservedRequest("screen_prompts", prompts))
        json.dumps(record).encode()
        assert all("text" in prompt for prompt in record["prompts"]) is (log.prompts or not record["prompts"])


def test_a_record_does_not_grow_with_a_request_that_is_refused() -> None:
    trail = AuditTrail(Log(prompts=True))
    record = trail.record(ObservedRequest("screen_prompts", ["a cat"] * 100_000))
    assert len(record["prompts"]) == 1000
    record = trail.record(ObservedRequest("screen_prompts", ["x" * 5_000_000]))
    assert record["prompts"] == [{"characters": 5_000_000}]


def test_iterators_are_left_to_the_request(guard: Guard) -> None:
    texts = iter(["a cat"])
    assert AuditTrail(Log()).record(ObservedRequest("generate", texts))["prompts"] == []  # type: ignore[arg-type]
    assert next(texts) == "a cat"


def test_a_result_without_verdicts_has_a_record() -> None:
    record = audit_record(Result((), (), (), "id", None, "model"))
    assert (record["policy"], record["action"], record["images"]) == (None, "allow", [])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[log]\nprompt = true", "log.prompt: unknown key"),
        ("[log]\nprompts = 1", "log.prompts"),
        ('[log]\nkey_variable = ""', "log.key_variable"),
    ],
)
def test_a_wrong_table_is_refused(write_policy: Callable[..., Path], table: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        Policy.load(write_policy(("[filters]", f"{table}\n\n[filters]")))


def test_a_policy_says_what_is_logged(write_policy: Callable[..., Path], policy: Policy) -> None:
    assert policy.log == Log(prompts=False, key_variable=None)
    table = '[log]\nprompts = true\nkey_variable = "KEY"'
    loaded = Policy.load(write_policy(("[filters]", f"{table}\n\n[filters]")))
    assert loaded.log == Log(prompts=True, key_variable="KEY")
