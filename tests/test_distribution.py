"""The wheel and the sdist have every file of the package; the installed wheel runs without the sources."""

from __future__ import annotations

import fnmatch
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import safelight

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "safelight"
BUILT_FROM = ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml")


def _files() -> set[str]:
    """Every file of the package as a path in the wheel."""
    paths = (path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(PACKAGE.parent).as_posix() for path in paths}


def test_every_file_of_the_package_is_packaged() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    patterns = [*settings["tool"]["setuptools"]["package-data"]["*"], "*.py"]
    left_out = [
        name for name in _files() if not any(fnmatch.fnmatch(Path(name).name, each) for each in patterns)
    ]
    assert not left_out


def test_the_version_is_the_same_everywhere() -> None:
    for name, line in {
        "CITATION.cff": f"version: {safelight.__version__}\n",
        "CHANGELOG.md": f"## {safelight.__version__} (",
    }.items():
        assert line in (ROOT / name).read_text("utf-8"), name


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and sdist, built from a copy, so that nothing is left in the sources."""
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in BUILT_FROM:
        shutil.copy(ROOT / name, source)
    leave_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", source / "src", ignore=leave_out)
    for hook in ("build_wheel", "build_sdist"):
        code = f"from setuptools.build_meta import {hook}; {hook}({str(dist)!r})"
        subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    return dist


@pytest.mark.slow
def test_the_wheel_and_the_sdist_have_every_file(built: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    assert _files() - set(zipfile.ZipFile(wheel).namelist()) == set()
    with tarfile.open(sdist) as archive:
        there = {name.partition("/src/")[2] for name in archive.getnames()}
    assert _files() - there == set()


@pytest.mark.slow
def test_the_installed_wheel_runs_the_demo(built: Path, tmp_path: Path) -> None:
    """In an environment of its own, which finds what safelight needs where these tests do."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    fresh = tmp_path / "fresh"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", fresh], check=True)
    python = fresh / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "--quiet"]
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", *built.glob("*.whl")], env=environment, check=True
    )
    (packages,) = fresh.glob("lib/python*/site-packages")
    others = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "others.pth").write_text("\n".join(others))
    where = "import safelight; print(safelight.__file__)"
    found = subprocess.run([python, "-c", where], env=environment, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(packages)
    demo = [fresh / "bin" / "safelight", "demo", "--steps", "2", "--out", "shown"]
    subprocess.run(demo, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert "<img" in (tmp_path / "shown" / "index.html").read_text("utf-8")
