"""Self-contained HTML pages in one common style, with a light and a dark mode."""

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


def load_template(path: Path) -> Template:
    """Return the template of a part of a page. Values that are substituted into it must be escaped."""
    return Template(path.read_text("utf-8"))


def render_page(title: str, style: str, body: str) -> str:
    """Return a whole page with ``title`` and ``body``; ``style`` is CSS that follows the common CSS."""
    return load_template(_FRAME).substitute(title=escape(title), style=style, body=body)


def data_uri(image: Image, kind: str = "PNG") -> str:
    """Return the image as a data URI; ``kind`` is "PNG" or "JPEG"."""
    buffer = io.BytesIO()
    image.save(buffer, kind, optimize=True)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
