from __future__ import annotations

import importlib.util

import pytest
from PIL import Image

from safelight import registry
from safelight.errors import MissingExtraError

installed = importlib.util.find_spec("nudenet") is not None


@pytest.mark.skipif(installed, reason="NudeNet is installed")
def test_without_the_extra_the_error_names_it() -> None:
    with pytest.raises(MissingExtraError, match=r'pip install "safelight\[nudenet\]"'):
        registry.build("image_filter", "nudenet")


@pytest.mark.skipif(not installed, reason="NudeNet is not installed")
def test_an_empty_picture_shows_nobody() -> None:
    nudenet = registry.build("image_filter", "nudenet", name="mine")
    assert nudenet.find([Image.new("RGB", (64, 48), "green")]) == [[]]
