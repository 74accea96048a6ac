"""Beside transformers' own pipeline, on tiny models with random weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import safelight
from safelight import registry
from safelight.errors import FilterError, MissingExtraError, ModelError
from safelight.models.files import write_hashes
from safelight.types import Finding

COMMIT = "0123456789abcdef0123456789abcdef01234567"

SaveModel = Callable[..., Path]
Images = list[Image.Image]


def _build(model: Path | str, **options: Any) -> Any:
    return registry.build("image_filter", "image-classifier", model=str(model), **options)


def _scores(answer: Any) -> dict[str, float]:
    return {finding.label: finding.score for finding in answer}


def _pipeline(folder: Path, images: Images) -> list[dict[str, float]]:
    """What transformers' pipeline says. Images are resized first, as its processor would: those of three
    pixels' height it takes for channels."""
    from transformers import pipeline

    classify = pipeline("image-classification", model=str(folder), device="cpu")
    small = [image.resize((32, 32), Image.Resampling.BILINEAR) for image in images]
    return [{each["label"]: each["score"] for each in row} for row in classify(small, top_k=99)]


@pytest.mark.parametrize("config", [{}, {"problem_type": "multi_label_classification"}])
def test_scores_are_those_of_transformers_pipeline(
    save_classifier: SaveModel, images: Images, config: dict[str, str]
) -> None:
    folder = save_classifier("normal", "nsfw", "drawing", **config)
    answers = [_scores(answer) for answer in _build(folder, threshold=0, batch=2).find(images)]
    for mine, expected in zip(answers, _pipeline(folder, images), strict=True):
        assert mine == pytest.approx(expected, abs=1e-5)
    assert max(row["nsfw"] for row in answers) - min(row["nsfw"] for row in answers) > 0.005


def test_a_model_with_one_class_answers_with_its_probability(
    save_classifier: SaveModel, images: Images
) -> None:
    folder = save_classifier("nsfw")
    answers = [_scores(answer) for answer in _build(folder, threshold=0).find(images)]
    assert answers == [pytest.approx(row, abs=1e-5) for row in _pipeline(folder, images)]


def test_classes_of_one_label_add_up_where_they_exclude_each_other(
    save_classifier: SaveModel, images: Images
) -> None:
    table = {"hentai": "sexual.explicit", "porn": "sexual.explicit"}
    folder = save_classifier("hentai", "neutral", "porn")
    explicit = _build(folder, labels=table)
    assert explicit.labels == {"sexual.explicit"}
    for answer, row in zip(explicit.find(images), _pipeline(folder, images), strict=True):
        assert _scores(answer) == pytest.approx({"sexual.explicit": row["hentai"] + row["porn"]}, abs=1e-5)


def test_the_likeliest_class_of_a_label_counts_where_they_do_not(
    save_classifier: SaveModel, images: Images
) -> None:
    folder = save_classifier("blood", "knife", problem_type="multi_label_classification")
    found = _build(folder, labels={"blood": "violence", "knife": "violence"}).find(images)
    for answer, row in zip(found, _pipeline(folder, images), strict=True):
        assert _scores(answer) == pytest.approx({"violence": max(row.values())}, abs=1e-5)


def test_scores_below_the_threshold_are_left_out(save_classifier: SaveModel, images: Images) -> None:
    folder = save_classifier("a", "b", scale=1.0)  # nearly the same for everything
    assert _build(folder, threshold=0.9).find(images) == [[]] * len(images)


@pytest.fixture
def onnx_folder(save_classifier: SaveModel) -> Path:
    """A classifier and its ONNX beside it: the configurations, ``model.safetensors`` and ``model.onnx``."""
    import torch
    from transformers import ViTForImageClassification

    folder = save_classifier("normal", "nsfw")

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = ViTForImageClassification.from_pretrained(folder)

        def forward(self, pixel_values: torch.Tensor) -> Any:
            return self.model(pixel_values).logits

    torch.onnx.export(
        Logits().eval(),
        (torch.zeros(2, 3, 32, 32),),
        folder / "model.onnx",
        input_names=["pixel_values"],
        dynamic_shapes=[{0: torch.export.Dim("batch")}],
        external_data=False,
        verbose=False,
    )
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_onnx_says_the_same_without_pytorch(onnx_folder: Path, images: Images, tmp_path: Path) -> None:
    expected = [pytest.approx(row, abs=1e-4) for row in _pipeline(onnx_folder, images)]
    (onnx_folder / "model.safetensors").unlink()
    assert [_scores(row) for row in _build(onnx_folder, threshold=0, batch=3).find(images)] == expected
    code = (
        f"import sys; from safelight import registry; from PIL import Image; "
        f"f = registry.build('image_filter', 'image-classifier', model={str(onnx_folder)!r}); "
        f"f.find([Image.new('RGB', (8, 8))]); print('torch' in sys.modules)"
    )
    assert _python(code) == "False"
    _change(onnx_folder / "preprocessor_config.json", do_center_crop=True)
    with pytest.raises(ModelError, match=r"image preprocessing of .* is not supported"):
        _build(onnx_folder)


def _python(code: str, **environment: str) -> str:
    source = str(Path(safelight.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": source, **environment},
    )
    return done.stdout.strip()


def test_a_hub_id_is_read_at_the_commit_that_was_named(save_classifier: SaveModel, tmp_path: Path) -> None:
    """From a real cache of the hub, offline."""
    repository = tmp_path / "hub" / "models--some--model"
    (repository / "snapshots").mkdir(parents=True)
    save_classifier("normal", "nsfw").rename(repository / "snapshots" / COMMIT)
    code = (
        f"from safelight import registry; from PIL import Image; f = registry.build("
        f"'image_filter', 'image-classifier', model='some/model', revision='{COMMIT}'); "
        f"print(f.version, len(f.find([Image.new('RGB', (8, 8))])[0]))"
    )
    assert (
        _python(code, HF_HUB_CACHE=str(tmp_path / "hub"), HF_HUB_OFFLINE="1") == "some/model 0123456789ab 2"
    )


@pytest.mark.parametrize("revision", [None, "main", "0123456", COMMIT.upper()])
def test_a_hub_id_without_a_commit_is_refused(revision: str | None) -> None:
    with pytest.raises(ModelError, match="some/model is not pinned; set the option revision to the commit"):
        _build("some/model", revision=revision)


def test_folders_must_be_there_and_have_no_revision(save_classifier: SaveModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model at"):
        _build(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="has no revision"):
        _build(save_classifier("a", "b"), revision=COMMIT)


def test_what_was_altered_pickled_or_brings_code_is_refused(
    save_classifier: SaveModel, tmp_path: Path
) -> None:
    folder = save_classifier("a", "b")
    write_hashes(folder)
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelError, match="was altered"):
        _build(folder)
    folder = save_classifier("a", "b", name="pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be loaded"):
        _build(folder)
    folder = save_classifier("a", "b", name="code")
    auto_map = {"AutoModelForImageClassification": "own.Own"}
    _change(folder / "config.json", model_type="own", auto_map=auto_map)
    (folder / "own.py").write_text("raise SystemExit('run')", "utf-8")
    with pytest.raises(ModelError, match="cannot be loaded"):
        _build(folder)


def test_weights_that_lack_a_part_are_refused(save_classifier: SaveModel) -> None:
    from safetensors.numpy import load_file, save_file

    path = save_classifier("a", "b") / "model.safetensors"
    weights = {name: value for name, value in load_file(path).items() if not name.startswith("classifier")}
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(ModelError, match=r"lack classifier\.(bias|weight)"):
        _build(path.parent)


def _change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")


def test_a_model_that_estimates_a_quantity_is_refused(save_classifier: SaveModel) -> None:
    with pytest.raises(ModelError, match="no probabilities"):
        _build(save_classifier("beauty", problem_type="regression"))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"labels": {"nsfv": "sexual.explicit"}}, 'did you mean "nsfw"'),
        ({"threshold": 2.0}, "threshold is 2.0"),
        ({"batch": 0}, "batch is 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    save_classifier: SaveModel, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(FilterError, match=problem):
        _build(save_classifier("normal", "nsfw"), **options)


def test_answers_that_are_no_numbers_block(save_classifier: SaveModel, images: Images) -> None:
    (answer, *_) = _build(save_classifier("normal", "nsfw", scale=float("nan"))).find(images)
    assert isinstance(answer, FilterError)


def test_what_cannot_be_read_blocks_itself_alone(save_classifier: SaveModel, images: Images) -> None:
    classify = _build(save_classifier("normal", "nsfw"))
    first, empty, second = classify.find([images[0], Image.new("RGB", (0, 9)), images[1]])
    assert isinstance(empty, FilterError)
    assert [first, second] == classify.find(images[:2])
    assert all(isinstance(finding, Finding) for finding in first)


def test_without_pytorch_the_error_names_the_extra(
    save_classifier: SaveModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_classifier("normal", "nsfw")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match='needs the extra "generate"'):
        _build(folder)


def test_an_image_of_another_mode_is_seen_in_its_colours(save_classifier: SaveModel) -> None:
    classify = _build(save_classifier("normal", "nsfw"), threshold=0)
    grey = Image.fromarray(np.arange(1600, dtype=np.uint8).reshape(40, 40))
    assert classify.find([grey]) == classify.find([grey.convert("RGB")])
