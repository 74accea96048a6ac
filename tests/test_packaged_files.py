"""Every packaged file that decides is pinned, and an altered one is refused when it is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

import safelight
from safelight.errors import FilterError, ModelError, PolicyError, SafelightError
from safelight.filters.image.storybook import StorybookImage
from safelight.filters.text.restoration import rare_words
from safelight.models import pipelines as models
from safelight.models.files import read_json
from safelight.models.onnx import open_session
from safelight.models.pipelines import ModelRef, load_pipeline
from safelight.policy import Policy
from safelight.storage import packaged_files
from safelight.storage.toml_file import TomlFile
from safelight.storybook.detector import Detector

PACKAGE = Path(safelight.__file__).parent
# Documents and pages decide nothing.
FREE = {"", ".py", ".pyc", ".md", ".html", ".css", ".png", ".typed"}


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of two files that are pinned, in place of this one's."""
    (tmp_path / "lexicons").mkdir()
    (tmp_path / "words.txt").write_text("a cat")
    shutil.copy(PACKAGE / "filters/text/lexicons/storybook.toml", tmp_path / "lexicons")
    monkeypatch.setattr(packaged_files, "_PACKAGE", tmp_path)
    monkeypatch.setattr(packaged_files, "_MANIFEST", tmp_path / "hashes.json")
    packaged_files.write_manifest()
    yield tmp_path
    packaged_files._pinned.cache_clear()


def test_every_packaged_file_that_decides_is_pinned_as_it_is() -> None:
    """After a change on purpose: ``make pin``."""
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    data = {path for path in files if path.suffix not in FREE} - {PACKAGE / "hashes.json"}
    now = {path.relative_to(PACKAGE).as_posix(): sha256(path.read_bytes()).hexdigest() for path in data}
    assert json.loads((PACKAGE / "hashes.json").read_text()) == now
    for name in ("storybook/detectors/filter.onnx", "filters/text/words.txt", "policies/general.toml"):
        assert name in now


def test_an_altered_file_is_refused_and_the_error_says_what_to_do(copy: Path) -> None:
    assert packaged_files.read_text(copy / "words.txt") == "a cat"
    (copy / "words.txt").write_text("a hat")
    with pytest.raises(
        FilterError, match=r"altered .* install safelight again, .* copy it elsewhere and give"
    ):
        packaged_files.read_text(copy / "words.txt", FilterError)
    for spelt in (copy / "lexicons" / ".." / "words.txt", copy / "." / "words.txt"):
        with pytest.raises(ModelError, match="altered"):
            packaged_files.read_text(spelt)


def test_a_file_that_was_added_is_refused_and_one_elsewhere_is_not(
    copy: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (copy / "lexicons" / "mine.toml").write_text("")
    with pytest.raises(PolicyError, match=r"mine\.toml is not part of safelight; move it elsewhere"):
        TomlFile(copy / "lexicons" / "mine.toml", PolicyError)
    with pytest.raises(ModelError, match="not part of safelight"):
        packaged_files.check_folder(copy / "lexicons")
    elsewhere = tmp_path_factory.mktemp("mine") / "words.txt"
    elsewhere.write_text("mine")
    assert packaged_files.read_text(elsewhere) == "mine"
    packaged_files.check_folder(elsewhere.parent)


def test_a_file_of_a_folder_that_is_missing_is_told(copy: Path) -> None:
    packaged_files.check_folder(copy / "lexicons")
    (copy / "lexicons" / "storybook.toml").unlink()
    with pytest.raises(ModelError, match=r"storybook\.toml is missing"):
        packaged_files.check_folder(copy / "lexicons")


@pytest.mark.parametrize("manifest", ["", "[1]", "{", "null", "\xff"])
def test_without_a_manifest_nothing_is_read(copy: Path, manifest: str) -> None:
    (copy / "hashes.json").write_text(manifest, "latin-1")
    packaged_files._pinned.cache_clear()
    with pytest.raises(ModelError, match=r"hashes\.json is missing or damaged"):
        packaged_files.read_bytes(copy / "words.txt")


def test_each_loader_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every packaged file had been altered."""
    from safelight.filters.text import lexicon, restoration
    from safelight.policy.taxonomy import load_taxonomy

    pinned = dict.fromkeys(packaged_files._pinned(), "0" * 64)
    monkeypatch.setattr(packaged_files, "_pinned", lambda: pinned)
    text = PACKAGE / "filters" / "text"

    def refuses(error: type[SafelightError], load: object, *arguments: object) -> None:
        with pytest.raises(error, match="altered"):
            load(*arguments)  # type: ignore[operator]

    refuses(ModelError, Detector.load, "filter")
    refuses(ModelError, open_session, text / "classifiers" / "general" / "model.onnx")
    refuses(ModelError, read_json, PACKAGE / "storybook" / "clip" / "clip.json")
    refuses(ModelError, load_pipeline, "storybook")
    refuses(PolicyError, Policy.load, "storybook")
    refuses(FilterError, lexicon._WordList, "storybook")
    refuses(FilterError, rare_words.__wrapped__)
    refuses(FilterError, restoration._common_words.__wrapped__)
    refuses(PolicyError, load_taxonomy.__wrapped__)


def test_a_detector_with_zeroed_weights_lets_no_gun_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would see nothing, and find every image harmless."""
    folder = tmp_path / "storybook" / "detectors"
    folder.mkdir(parents=True)
    network = onnx.load(PACKAGE / "storybook" / "detectors" / "filter.onnx")
    for tensor in network.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind == "f":
            tensor.CopyFrom(numpy_helper.from_array(values * 0, tensor.name))
    onnx.save(network, folder / "filter.onnx")
    shutil.copy(PACKAGE / "hashes.json", tmp_path)
    monkeypatch.setattr(packaged_files, "_PACKAGE", tmp_path)
    monkeypatch.setattr("safelight.storybook.detector._FOLDER", folder)
    with pytest.raises(ModelError, match="altered"):
        StorybookImage()


def test_a_packaged_model_with_another_configuration_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "storybook" / "model"
    shutil.copytree(PACKAGE / "storybook" / "model", copy)
    monkeypatch.setattr(packaged_files, "_PACKAGE", tmp_path)
    monkeypatch.setitem(models.MODELS, "storybook", ModelRef("storybook", str(copy), "1", "Apache-2.0"))  # type: ignore[arg-type]
    packaged_files.check_folder(copy)
    scheduler = copy / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("epsilon", "sample"))
    with pytest.raises(ModelError, match=r"scheduler_config\.json was altered"):
        load_pipeline("storybook")
