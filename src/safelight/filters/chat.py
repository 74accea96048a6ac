"""Moderation by a model behind an OpenAI-compatible chat endpoint: requests, retries and timeouts."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

from safelight.errors import FilterError, MissingExtraError, unknown_name
from safelight.filters.questions import QUESTIONS, Case, Question, Questions, Rules, Scores
from safelight.policy.taxonomy import load_taxonomy
from safelight.types import Finding

Item = TypeVar("Item")

_RETRIED_STATUS_CODES = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_MAX_WAIT_S = 30.0
# In bytes; long answers have a few thousand.
_MAX_ANSWER_BYTES = 1 << 20
# Without "ip": a model cannot recognise a copyright violation without knowing who owns the rights.
_DEFAULT_CATEGORIES = tuple(category for category in load_taxonomy().categories if category != "ip")


@dataclass(eq=False)
class ChatJudge(ABC, Generic[Item]):
    """Reports every category with the score that the model assigns to it.

    ``url`` is the base URL, without ``/chat/completions``. ``answers`` is the format of the model's answers,
    a key of ``questions``. ``guidelines`` is text that is added to the instructions, or a table from
    categories to descriptions of what the service forbids, which replace those of the taxonomy. The API key
    is read from the environment variable ``key_variable``. ``timeout_s`` limits a whole request, from
    connecting to the last byte of the response, which may have at most 1 MiB. An item is blocked if no valid
    answer is received in ``attempts`` attempts with exponential backoff from ``pause_s``, or if its request
    has not been sent after ``deadline_s``. That deadline should be less than the policy's ``timeout_s`` by
    at least one request's ``timeout_s``.

    Raises ``FilterError`` for invalid options and ``MissingExtraError`` if httpx is not installed.
    """

    version: ClassVar[str] = "2"
    labels: ClassVar[frozenset[str]] = frozenset(load_taxonomy().categories)
    questions: ClassVar[Mapping[str, Questions]] = QUESTIONS
    # The default categories, by ``answers``, for models that know certain categories only.
    default_categories: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    url: str
    model: str
    answers: str = "json"
    categories: Sequence[str] | None = None
    guidelines: str | Mapping[str, str] = ""
    key_variable: str = ""
    timeout_s: float = 20.0
    attempts: int = 3
    concurrency: int = 4
    pause_s: float = 0.5
    deadline_s: float = 25.0
    name: str = ""

    @staticmethod
    def requires(options: Mapping[str, Any]) -> Mapping[str, str]:
        return {"httpx": "language-model"}

    def __post_init__(self) -> None:
        if self.answers not in self.questions:
            raise FilterError(unknown_name("kind of answers", self.answers, self.questions))
        if self.categories is None:
            self.categories = self.default_categories.get(self.answers, _DEFAULT_CATEGORIES)
        if not self.categories or self.attempts < 1 or self.concurrency < 1:
            raise FilterError("a language model needs at least one category, one attempt and one connection.")
        self._rules = _make_rules(self.categories, self.guidelines)
        self._client_factory = _client_factory(self.url, self.key_variable)

    def find(self, items: Sequence[Item]) -> list[list[Finding] | FilterError]:
        """Send one request per item and question, ``concurrency`` at a time.

        It cannot be called from a running event loop.
        """
        return asyncio.run(self._find(items, time.monotonic() + self.deadline_s))

    async def _find(self, items: Sequence[Item], deadline: float) -> list[list[Finding] | FilterError]:
        free = asyncio.Semaphore(self.concurrency)

        async def judge(item: Item) -> list[Finding] | FilterError:
            async with free:
                return await self._judge(client, item, deadline)

        async with self._client_factory() as client:
            return await asyncio.gather(*map(judge, items))

    @abstractmethod
    def _case(self, item: Item) -> Case:
        """Return ``item`` as it is sent to the model; raises ``FilterError`` if it cannot be encoded."""

    async def _judge(self, client: Any, item: Item, deadline: float) -> list[Finding] | FilterError:
        scores: dict[str, float] = {}
        try:
            for question in self.questions[self.answers](self._case(item), self._rules):
                scores.update(await self._ask(client, question, deadline))
        except FilterError as error:
            return error
        return [Finding(category, score, self.name) for category, score in scores.items()]

    async def _ask(self, client: Any, question: Question, deadline: float) -> Scores:
        """Return the scores in the model's answer, with retries if the server is busy."""
        body = {
            "model": self.model,
            "messages": list(question.messages),
            "temperature": 0.0,
            **question.options,
        }
        reason = ""
        for attempt in range(self.attempts):
            await self._wait_before_attempt(attempt, deadline, reason)
            answer, reason = await self._post(client, body)
            if answer is not None:
                return question.read(_first_choice(answer))
        raise FilterError(f"{reason}, in each of {self.attempts} attempts.")

    async def _post(self, client: Any, body: Mapping[str, Any]) -> tuple[bytes | None, str]:
        """Return the response, or None and the reason if it is worth a retry.

        Raises ``FilterError`` for errors that a retry cannot fix.
        """
        import httpx

        try:
            async with asyncio.timeout(self.timeout_s):
                return await _read_response(client, body)
        except httpx.HTTPError as error:
            return None, f"the server did not answer ({type(error).__name__})"
        except TimeoutError:
            return None, f"the server did not answer within {self.timeout_s:g} s"

    async def _wait_before_attempt(self, attempt: int, deadline: float, reason: str) -> None:
        """Wait before a retry: exponential backoff with jitter."""
        if attempt:
            longest = min(_MAX_WAIT_S, self.pause_s * 2.0 ** (attempt - 1))
            await asyncio.sleep(longest * random.uniform(0.5, 1.5))
        if time.monotonic() > deadline:
            why = f" ({reason})" if reason else ""
            raise FilterError(f"the batch was not finished within {self.deadline_s:g} s{why}.")


def _make_rules(categories: Sequence[str], guidelines: str | Mapping[str, str]) -> Rules:
    known = load_taxonomy().categories
    own = {} if isinstance(guidelines, str) else guidelines
    if unknown := [category for category in (*categories, *own) if category not in known]:
        raise FilterError(unknown_name("category", unknown[0], known))
    if unused := [category for category in own if category not in categories]:
        raise FilterError(f'there are guidelines for "{unused[0]}"; list it under categories as well.')
    forbidden = {category: own.get(category, known[category].meaning) for category in categories}
    return Rules(forbidden, guidelines if isinstance(guidelines, str) else "")


def _client_factory(url: str, key_variable: str) -> Any:
    """Return a factory of HTTP clients; a client keeps its connections open during a batch."""
    try:
        import httpx
    except ImportError as error:
        raise MissingExtraError("a language model as judge", "language-model") from error
    # Without compression, so that a short response cannot expand beyond the size limit.
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    if key_variable and key_variable not in os.environ:
        raise FilterError(
            f"the environment variable {key_variable} is not set; it should contain the server's API key."
        )
    if key_variable:
        headers["Authorization"] = f"Bearer {os.environ[key_variable]}"
    # httpx's timeouts restart with every received byte, so a timeout for the whole request is used instead.
    return partial(
        httpx.AsyncClient,
        base_url=httpx.URL(url),
        headers=headers,
        timeout=None,
        verify=httpx.create_ssl_context(),
    )


async def _read_response(client: Any, body: Mapping[str, Any]) -> tuple[bytes | None, str]:
    """Return the response body, or None and the reason if it is worth a retry.

    Raises ``FilterError`` for other failures and for a body that is too long.
    """
    # The JSON is ASCII, which can represent lone surrogates in prompts as well.
    async with client.stream("POST", "chat/completions", content=json.dumps(body)) as response:
        reason = f"the server answered with status {response.status_code}"
        if response.status_code in _RETRIED_STATUS_CODES:
            return None, reason
        if not response.is_success:
            raise FilterError(f"{reason}.")
        answer = bytearray()
        async for chunk in response.aiter_raw():
            answer += chunk
            if len(answer) > _MAX_ANSWER_BYTES:
                raise FilterError(f"the server's response is longer than {_MAX_ANSWER_BYTES:,} bytes.")
        return bytes(answer), ""


def _first_choice(answer: bytes) -> Any:
    try:
        return json.loads(answer)["choices"][0]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise FilterError("the server's response is not a chat completion.") from error
