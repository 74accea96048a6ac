"""Lines that say how far a training is."""

from __future__ import annotations

import io

import pytest

from safelight.training.progress import Progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "before"), [(io.StringIO(), ""), (_Terminal(), "\r\033[K")])
def test_a_line_stands_alone_where_a_bar_was_drawn(
    stream: io.StringIO, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", stream)
    Progress("everything", 4).tell(4, "loss 0.1")
    line = stream.getvalue()
    assert line.startswith(f"{before}everything: step 4/4 (100 %), ")
    assert line.endswith(", 0.0 min left, loss 0.1\n")


def test_a_line_at_most_so_often_and_one_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("everything", 3, every_s=1000)
    for step in (1, 2, 3):
        progress.tell(step)
    assert [line.split(" (")[0] for line in capsys.readouterr().err.splitlines()] == ["everything: step 3/3"]
