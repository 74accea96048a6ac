"""A chat server with given answers, which keeps the requests that it received."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from PIL import Image

from safelight.errors import FilterError


class Chats:
    """Reads the requests of a judge and writes the answers of a server."""

    @staticmethod
    def parts(body: dict[str, Any]) -> list[dict[str, Any]]:
        """The text of the user message."""
        parts: list[dict[str, Any]] = body["messages"][-1]["content"]
        return parts

    @classmethod
    def image(cls, body: dict[str, Any], encoding: str = "jpeg") -> Image.Image:
        """The image, decoded as a server does."""
        head, _, data = cls.parts(body)[0]["image_url"]["url"].partition(",")
        assert head == f"data:image/{encoding};base64"
        image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        assert image.format == encoding.upper()
        image.load()
        return image

    @staticmethod
    def scoring(scores: Mapping[str, Any]) -> Any:
        """A model that follows instructions."""

        def answer(body: dict[str, Any]) -> str:
            example = json.loads(body["messages"][0]["content"].rpartition("nothing else: ")[2])
            return json.dumps({**example, "scores": scores})

        return answer

    @staticmethod
    def choice(text: str, *tokens: tuple[str, Mapping[str, float]]) -> tuple[int, bytes, float]:
        """An answer whose tokens come with the likeliest ones in their place."""
        rows = [
            {
                "token": token,
                "top_logprobs": [{"token": each, "logprob": logprob} for each, logprob in likely.items()],
            }
            for token, likely in tokens
        ]
        choice = {"message": {"content": text}, "logprobs": {"content": rows}}
        return 200, json.dumps({"choices": [choice]}).encode(), 0.0

    @staticmethod
    def found(answer: Sequence[Any] | FilterError) -> dict[str, float]:
        assert not isinstance(answer, FilterError), answer
        return {finding.label: finding.score for finding in answer}


@pytest.fixture
def chats() -> type[Chats]:
    return Chats
