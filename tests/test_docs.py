"""The documents cannot go stale: their marked code runs, and every component is in them.

A Python or console block is run if the line before it is ``<!-- runs -->``. The Python blocks of one
document share their names. In a console block every ``$ safelight …`` must exit with 0 (or with 3 for a
blocked request, if the line ends with ``# exits 3``), and print the lines below it, where there are any.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from safelight import registry
from safelight.policy import packaged_policies

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_BLOCK = re.compile(r"<!-- runs -->\n```(python|console)\n(.*?)```", re.DOTALL)
_EXIT = re.compile(r"#\s*exits (\d)")


def _blocks(language: str) -> list[tuple[Path, list[str]]]:
    found = [(path, _BLOCK.findall(path.read_text("utf-8"))) for path in DOCUMENTS]
    chosen = [(path, [code for kind, code in blocks if kind == language]) for path, blocks in found]
    return [(path, codes) for path, codes in chosen if codes]


def _name(value: object) -> str | None:
    return value.name if isinstance(value, Path) else None


@pytest.mark.parametrize(("path", "codes"), _blocks("python"), ids=_name)
def test_python_in_the_documents_runs(
    path: Path, codes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in codes:
        exec(compile(code, str(path), "exec"), names)


@pytest.mark.parametrize(("path", "codes"), _blocks("console"), ids=_name)
def test_commands_in_the_documents_run(path: Path, codes: list[str], tmp_path: Path) -> None:
    for code in codes:
        for command in code.split("$ ")[1:]:
            line, _, expected = command.partition("\n")
            done = _run(line, tmp_path)
            wanted = _EXIT.search(line)
            assert done.returncode == (int(wanted[1]) if wanted else 0), done.stderr
            for said in filter(None, map(str.strip, expected.splitlines())):
                assert said == "…" or said in done.stdout


def _run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program, *arguments = shlex.split(line, comments=True)
    assert program == "safelight"
    return subprocess.run(
        [sys.executable, "-m", "safelight", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )


def test_something_in_the_documents_runs() -> None:
    assert _blocks("python")


def test_every_component_and_policy_is_documented() -> None:
    text = "\n".join(path.read_text("utf-8") for path in DOCUMENTS)
    names = {name for kind in registry.KINDS for name in registry.names(kind)} | set(packaged_policies())
    assert {name for name in names if f"`{name}`" not in text} == set()


def test_nobody_is_told_to_install_safelight_from_an_index() -> None:
    """No index has it, so the name there could be anybody's: install lines name a clone or a Git address."""
    sources = [
        *DOCUMENTS,
        *ROOT.glob("src/**/*.py"),
        *ROOT.glob("src/**/*.toml"),
        *ROOT.glob("examples/**/*"),
    ]
    from_index = re.compile(r"pip install (?:-\S+ )*[\"']?safelight\b(?!\S* @ git\+)")
    assert from_index.search('pip install "safelight[generate]"')
    for path in filter(Path.is_file, sources):
        assert not from_index.search(path.read_text("utf-8", "ignore")), path


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_links_inside_the_repository_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target
