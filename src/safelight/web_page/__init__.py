"""HTML pages: each is one file that needs nothing else, in one look, light and dark."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

_FRAME = Path(__file__).with_name("frame.html")


def template(path: Path) -> Template:
    """A part of a page; what is put into it must be escaped."""
    return Template(path.read_text("utf-8"))


def framed(title: str, style: str, body: str) -> str:
    """The whole page; ``style`` comes after that of all pages."""
    return template(_FRAME).substitute(title=escape(title), style=style, body=body)


def data_uri(image: Image, kind: str = "PNG") -> str:
    """As part of the page, "PNG" or "JPEG"."""
    buffer = io.BytesIO()
    image.save(buffer, kind, optimize=True)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
