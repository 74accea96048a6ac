from __future__ import annotations

from pathlib import Path

import pytest

from screens import POLICY


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "colours.toml"
    path.write_text(POLICY)
    return path
