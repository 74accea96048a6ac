"""Audit records: the request, the filters that ran, the decisions and the released images.

A record is a dictionary of JSON types. Unless the policy sets ``[log] prompts = true``, it contains neither
the text of a prompt nor any text that may quote one: error messages, reasons of verdicts and notes of results
are left out. In their place it has hashes, counts, names defined by the policy or the code, and types of
errors.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from safelight.errors import PolicyError
from safelight.policy import Log
from safelight.types import Action, Result, Verdict, severest_action

if TYPE_CHECKING:
    from PIL.Image import Image

SCHEMA = "safelight.audit/1"

# Limits on the size of a record, since requests that are rejected for their size are recorded as well.
_MOST_TEXTS, _LONGEST_TEXT = 1000, 1_000_000
_NAME = re.compile(r"\w*")


def audit_record(
    result: Result,
    prompt: str | Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
    log: Log | None = None,
) -> dict[str, Any]:
    """Return the audit record of a generation.

    ``prompt`` and ``arguments`` are those of the request, whose texts are hashed; ``log`` is the policy's
    table, ``Log()`` by default. Raises ``PolicyError`` if the key that ``log`` names is not set.
    """
    request = ObservedRequest("generate", prompt, arguments or {}, result=result)
    return AuditTrail(log or Log()).record(request)


def image_sha256(image: Image) -> str:
    """Return the SHA-256 of an image's mode, size and pixels, which does not depend on its file format.

    The hash is that of ``b"RGB 512x384\\n"``, with the image's own mode, width and height, followed by the
    bytes of its pixels row by row.
    """
    digest = hashlib.sha256(f"{image.mode} {image.width}x{image.height}\n".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


@dataclass(slots=True)
class ObservedRequest:
    """A request and its outcome: the ``result`` of a generation, ``verdicts`` of a screening, or ``error``.

    ``event`` is the name of the guard's method; ``arguments`` are the arguments other than the prompts.
    """

    event: str
    prompts: str | Sequence[str] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    result: Result | None = None
    verdicts: Sequence[Verdict] = ()
    error: BaseException | None = None
    elapsed_ms: float | None = None


class AuditTrail:
    """Makes the records that a policy's ``[log]`` table asks for.

    Raises ``PolicyError`` if the table names a key that is not in the environment.
    """

    def __init__(self, log: Log) -> None:
        self._prompts = log.prompts
        self._key = _key(log.key_variable)

    def record(self, request: ObservedRequest, policy: str | None = None) -> dict[str, Any]:
        """Return the record of a finished request; ``policy`` is the id of the policy that applied to it."""
        result, error = request.result, request.error
        verdicts = result.verdicts if result else request.verdicts
        prompts = _texts(request.prompts)
        return {
            "schema": SCHEMA,
            "event": request.event,
            "request_id": result.request_id if result else request.request_id,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "policy": policy or next((verdict.policy for verdict in verdicts), None),
            "outcome": "error" if error else "completed",
            "error": self._error(error) if error else None,
            "action": None if error else severest_action(verdicts).value,
            "categories": _decided(verdicts),
            "filters": _versions(verdicts),
            "elapsed_ms": None if request.elapsed_ms is None else round(request.elapsed_ms, 3),
            "prompts": self._listed(prompts),
            "inputs": self._inputs(request.arguments),
            "verdicts": [self._verdict(verdict) for verdict in verdicts],
            **(self._generation(result, len(prompts)) if result else {}),
        }

    def _generation(self, result: Result, prompts: int) -> dict[str, Any]:
        """Return the fields that only a generation has."""
        notes = {"notes": list(result.notes)} if self._prompts else {}
        return {
            "model": result.model,
            "seed": result.seed,
            "images_per_prompt": result.images_per_prompt,
            "images": _images(result, prompts),
            "stage_ms": {stage: round(ms, 3) for stage, ms in result.elapsed_ms.items()},
            "truncated_tokens": list(result.truncated_tokens),
            "stopped": {str(i): {"step": s.step, "steps": s.steps} for i, s in result.stopped.items()},
            "attempts": {str(i): [each.guidance for each in tries] for i, tries in result.attempts.items()},
            **notes,
        }

    def _verdict(self, verdict: Verdict) -> dict[str, Any]:
        reasons = {"reasons": list(verdict.reasons)} if self._prompts else {}
        return {
            "stage": verdict.stage,
            "subject": _name(verdict.subject),
            "index": verdict.index,
            "frame": verdict.frame,
            "action": verdict.action.value,
            "score": verdict.score,
            "failed_closed": bool(verdict.reasons),
            "categories": {
                name: {
                    "score": category.score,
                    "action": category.action.value,
                    "threshold": category.threshold,
                    "labels": list(category.labels),
                }
                for name, category in verdict.categories.items()
            },
            "filters": {
                name: {
                    "version": run.version,
                    "elapsed_ms": round(run.elapsed_ms, 3),
                    "failed": bool(run.problem),
                }
                for name, run in verdict.filters.items()
            },
            **reasons,
        }

    def _error(self, error: BaseException) -> dict[str, str]:
        message = {"message": str(error)} if self._prompts else {}
        return {"type": type(error).__name__, **message}

    def _inputs(self, arguments: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """Return the texts among the arguments, by the argument's name."""
        texts = {_name(name): _texts(value) for name, value in arguments.items()}
        return {name: self._listed(found) for name, found in texts.items() if found}

    def _listed(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        return [self._text(text) for text in texts[:_MOST_TEXTS]]

    def _text(self, text: str) -> dict[str, Any]:
        """Return the length and hash of a text, and the text itself if the policy allows it."""
        if len(text) > _LONGEST_TEXT:
            return {"characters": len(text)}
        data = text.encode("utf-8", "surrogatepass")
        if self._key is None:
            digest = {"sha256": hashlib.sha256(data).hexdigest()}
        else:
            digest = {"hmac_sha256": hmac.new(self._key, data, "sha256").hexdigest()}
        return {**digest, "characters": len(text), **({"text": text} if self._prompts else {})}


def _key(variable: str | None) -> bytes | None:
    if variable is None:
        return None
    if not (key := os.environ.get(variable)):
        raise PolicyError(f"[log] reads the key for hashes from ${variable}, which is not set; set it.")
    return key.encode("utf-8", "surrogateescape")


def _texts(value: Any) -> tuple[str, ...]:
    """Return the texts in a text or list; iterators are not read, since they can be read only once."""
    if isinstance(value, str):
        return (value,)
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list | tuple) else ()


def _name(name: object) -> str:
    """Return the leading word characters of a name, at most 64: the rest may be text of the caller."""
    found = _NAME.match(str(name))
    return found[0][:64] if found else ""


def _decided(verdicts: Sequence[Verdict]) -> dict[str, str]:
    """Return the severest action of each category that reached a threshold."""
    actions: dict[str, Action] = {}
    for verdict in verdicts:
        for name, category in verdict.categories.items():
            if category.threshold is not None:
                actions[name] = max(category.action, actions.get(name, Action.ALLOW))
    return {name: action.value for name, action in sorted(actions.items())}


def _versions(verdicts: Sequence[Verdict]) -> dict[str, dict[str, str]]:
    """Return the version of every filter that ran, by stage and name."""
    versions: dict[str, dict[str, str]] = {}
    for verdict in verdicts:
        for name, run in verdict.filters.items():
            versions.setdefault(verdict.stage, {})[name] = run.version
    return versions


def _images(result: Result, prompts: int) -> list[dict[str, Any]]:
    """Return an entry for every image of the request, in order; one that was not released has no hash."""
    released = dict(zip(result.indices, result.images, strict=True))
    prompt_count = 1 + max((v.index for v in result.verdicts if v.subject == "prompt"), default=-1)
    return [
        {
            "index": number,
            "seed": None if result.seed is None else result.seed + number,
            "action": result.action_of(number).value,
            "sha256": image_sha256(released[number]) if number in released else None,
        }
        for number in range(max(prompts, prompt_count) * result.images_per_prompt)
    ]
