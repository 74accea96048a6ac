"""Judges behind a chat endpoint with OpenAI's interface: asking, asking again, and keeping to time."""

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

from safelight.errors import FilterError, MissingExtraError, no_such
from safelight.filters.questions import QUESTIONS, Case, Question, Questions, Rules, Scores
from safelight.policy.taxonomy import load_taxonomy
from safelight.types import Finding

Item = TypeVar("Item")

_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT_S = 30.0
# The most bytes of an answer that are read; a long one has some thousand.
_LONGEST_ANSWER = 1 << 20
# A copyright is not a harm that a model can see without knowing whose it is.
_DEFAULT = tuple(category for category in load_taxonomy().categories if category != "ip")


@dataclass(eq=False)
class ChatJudge(ABC, Generic[Item]):
    """Reports every category with the score that the model gives it.

    ``url`` ends before ``/chat/completions``. ``answers`` is how the model answers: a key of ``questions``.
    ``guidelines`` is added to what the model is told, or is a table that says for some categories what the
    service forbids, in place of the taxonomy's words. The key is read from the environment variable
    ``key_variable``. A request has ``timeout_s`` for everything, from connecting to the last byte of an
    answer of at most 1 MiB. An item whose answer cannot be had or read, after ``attempts`` with growing
    pauses, is blocked; so is one of a batch that has not been asked about after ``deadline_s``, which should
    be less than the policy's ``timeout_s`` by one request's ``timeout_s``.

    Raises ``FilterError`` for options that make no sense and ``MissingExtraError`` without httpx.
    """

    version: ClassVar[str] = "2"
    labels: ClassVar[frozenset[str]] = frozenset(load_taxonomy().categories)
    questions: ClassVar[Mapping[str, Questions]] = QUESTIONS
    # What a model that knows certain categories only is asked about if nothing else is said.
    usual: ClassVar[Mapping[str, tuple[str, ...]]] = {}

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
            raise FilterError(no_such("kind of answers", self.answers, self.questions))
        if self.categories is None:
            self.categories = self.usual.get(self.answers, _DEFAULT)
        if not self.categories or self.attempts < 1 or self.concurrency < 1:
            raise FilterError("a language model needs at least one category, one attempt and one connection.")
        self._rules = _rules(self.categories, self.guidelines)
        self._connect = _connect(self.url, self.key_variable)

    def find(self, items: Sequence[Item]) -> list[list[Finding] | FilterError]:
        """One request for each item, ``concurrency`` at a time; not to be called while an event loop runs."""
        return asyncio.run(self._find(items, time.monotonic() + self.deadline_s))

    async def _find(self, items: Sequence[Item], ends: float) -> list[list[Finding] | FilterError]:
        free = asyncio.Semaphore(self.concurrency)

        async def judge(item: Item) -> list[Finding] | FilterError:
            async with free:
                return await self._judge(client, item, ends)

        async with self._connect() as client:
            return await asyncio.gather(*map(judge, items))

    @abstractmethod
    def _case(self, item: Item) -> Case:
        """``item`` as the model is shown it; raises ``FilterError`` if it cannot be shown."""

    async def _judge(self, client: Any, item: Item, ends: float) -> list[Finding] | FilterError:
        scores: dict[str, float] = {}
        try:
            for question in self.questions[self.answers](self._case(item), self._rules):
                scores.update(await self._ask(client, question, ends))
        except FilterError as error:
            return error
        return [Finding(category, score, self.name) for category, score in scores.items()]

    async def _ask(self, client: Any, question: Question, ends: float) -> Scores:
        """The scores in the model's answer; a server that is busy is asked again."""
        body = {
            "model": self.model,
            "messages": list(question.messages),
            "temperature": 0.0,
            **question.options,
        }
        trouble = ""
        for attempt in range(self.attempts):
            await self._wait(attempt, ends, trouble)
            answer, trouble = await self._post(client, body)
            if answer is not None:
                return question.read(_choice(answer))
        raise FilterError(f"{trouble}, {self.attempts} times.")

    async def _post(self, client: Any, body: Mapping[str, Any]) -> tuple[bytes | None, str]:
        """The answer, or why asking again may help; raises ``FilterError`` where it would not."""
        import httpx

        try:
            async with asyncio.timeout(self.timeout_s):
                return await _answer(client, body)
        except httpx.HTTPError as error:
            return None, f"the server did not answer ({type(error).__name__})"
        except TimeoutError:
            return None, f"the server did not answer within {self.timeout_s:g} s"

    async def _wait(self, attempt: int, ends: float, trouble: str) -> None:
        """Before another attempt: twice as long each time, and not the same for everybody."""
        if attempt:
            longest = min(_LONGEST_WAIT_S, self.pause_s * 2.0 ** (attempt - 1))
            await asyncio.sleep(longest * random.uniform(0.5, 1.5))
        if time.monotonic() > ends:
            why = f" ({trouble})" if trouble else ""
            raise FilterError(f"its batch was not through after {self.deadline_s:g} s{why}.")


def _rules(categories: Sequence[str], guidelines: str | Mapping[str, str]) -> Rules:
    known = load_taxonomy().categories
    own = {} if isinstance(guidelines, str) else guidelines
    if unknown := [category for category in (*categories, *own) if category not in known]:
        raise FilterError(no_such("category", unknown[0], known))
    if idle := [category for category in own if category not in categories]:
        raise FilterError(f'there are guidelines for "{idle[0]}"; list it under categories as well.')
    forbidden = {category: own.get(category, known[category].meaning) for category in categories}
    return Rules(forbidden, guidelines if isinstance(guidelines, str) else "")


def _connect(url: str, key_variable: str) -> Any:
    """What makes a client, which keeps its connections while a batch is asked about."""
    try:
        import httpx
    except ImportError as error:
        raise MissingExtraError("a language model as judge", "language-model") from error
    # Compressed, a short answer can become a long one.
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    if key_variable and key_variable not in os.environ:
        raise FilterError(
            f"the environment variable {key_variable} is not set; it should hold the key of the server."
        )
    if key_variable:
        headers["Authorization"] = f"Bearer {os.environ[key_variable]}"
    # Times are kept for a whole request: those of httpx begin anew with every byte that comes.
    return partial(
        httpx.AsyncClient,
        base_url=httpx.URL(url),
        headers=headers,
        timeout=None,
        verify=httpx.create_ssl_context(),
    )


async def _answer(client: Any, body: Mapping[str, Any]) -> tuple[bytes | None, str]:
    """The body of the answer, or why asking again may help. Raises ``FilterError`` for one without end."""
    # In ASCII, which any prompt can be written in.
    async with client.stream("POST", "chat/completions", content=json.dumps(body)) as response:
        trouble = f"the server answered with status {response.status_code}"
        if response.status_code in _RETRIED:
            return None, trouble
        if not response.is_success:
            raise FilterError(f"{trouble}.")
        answer = bytearray()
        async for chunk in response.aiter_raw():
            answer += chunk
            if len(answer) > _LONGEST_ANSWER:
                raise FilterError(f"the answer of the server is longer than {_LONGEST_ANSWER:,} bytes.")
        return bytes(answer), ""


def _choice(answer: bytes) -> Any:
    try:
        return json.loads(answer)["choices"][0]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise FilterError("the answer of the server is not a chat completion.") from error
