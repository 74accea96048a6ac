from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from safelight.errors import ModelError
from safelight.models import pipelines as models
from safelight.models.pipelines import ModelRef, load_pipeline


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to spoil."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def _pin(folder: Path) -> dict[str, str]:
    files = folder.rglob("*.safetensors")
    pins = {f.relative_to(folder).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    (folder / "hashes.json").write_text(json.dumps(pins))
    return pins


def _edit_index(folder: Path, **values: Any) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, **values}))


def test_a_folder_loads_as_the_stock_pipeline(folder: Path) -> None:
    import diffusers

    _pin(folder)
    assert type(load_pipeline(folder, device="cpu")) is diffusers.StableDiffusionPipeline


def test_a_packaged_model_goes_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.MODELS, "tiny", ModelRef("tiny", str(folder), "1", "Apache-2.0"))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"hashes\.json is missing"):
        load_pipeline("tiny")
    _pin(folder)
    assert load_pipeline("tiny").name_or_path == "tiny"


def test_storybook_is_known() -> None:
    with pytest.raises(
        ModelError, match='no model "storybok"; available: storybook; did you mean "storybook"'
    ):
        load_pipeline("storybok")


@pytest.mark.parametrize("where", ["./nowhere", "some/where/else", "model.safetensors", "/none"])
def test_a_path_that_is_not_there_is_named(where: str) -> None:
    with pytest.raises(ModelError, match="there is no model at"):
        load_pipeline(where)


def test_a_folder_that_is_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not a diffusers model \(no model_index\.json\)"):
        load_pipeline(tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        load_pipeline(tmp_path)
    (tmp_path / "model_index.json").write_text("[]")
    with pytest.raises(ModelError, match="not a JSON object"):
        load_pipeline(tmp_path)


def test_missing_parts_and_files_are_named(folder: Path) -> None:
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_pipeline(folder)
    shutil.rmtree(folder / "unet")
    with pytest.raises(ModelError, match="unet is missing"):
        load_pipeline(folder)


def test_damaged_weights_are_refused(folder: Path) -> None:
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_pipeline(folder)


def test_altered_missing_and_added_weights_are_refused(folder: Path) -> None:
    pins = _pin(folder)
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    original = weights.read_bytes()
    weights.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    with pytest.raises(ModelError, match="altered"):
        load_pipeline(folder)
    weights.unlink()
    with pytest.raises(ModelError, match="missing"):
        load_pipeline(folder)
    weights.write_bytes(original)
    (folder / "hashes.json").write_text(json.dumps({k: v for k, v in pins.items() if "unet" not in k}))
    with pytest.raises(ModelError, match="not listed"):
        load_pipeline(folder)


def test_pickles_are_refused(folder: Path, tmp_path: Path) -> None:
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelError, match=r"\.bin could run code"):
        load_pipeline(folder)
    checkpoint = tmp_path / "model.ckpt"
    checkpoint.write_bytes(b"")
    with pytest.raises(ModelError, match="not a safetensors file; convert it"):
        load_pipeline(checkpoint)


def test_code_that_comes_with_a_model_is_never_run(folder: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (folder / "mine.py").write_text(f"open({str(ran)!r}, 'w')")
    _edit_index(folder, _class_name=["mine", "Mine"])
    with pytest.raises(ModelError, match="own pipeline code"):
        load_pipeline(folder)
    _edit_index(folder, _class_name="StableDiffusionPipeline", unet=["mine", "Mine"])
    with pytest.raises(ModelError, match='"unet" is code from "mine"'):
        load_pipeline(folder)
    for name in ("trust_remote_code", "custom_pipeline", "use_safetensors"):
        with pytest.raises(ModelError, match=f"{name} cannot be set"):
            load_pipeline(folder, **{name: False})
    assert not ran.exists()


def test_a_file_that_only_looks_like_a_checkpoint_is_refused(tmp_path: Path, folder: Path) -> None:
    fake = tmp_path / "fake.safetensors"
    fake.write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="not a valid safetensors file"):
        load_pipeline(fake)
    part = folder / "vae" / "diffusion_pytorch_model.safetensors"
    with pytest.raises(ModelError, match="pass config= with a folder of the same kind"):
        load_pipeline(part, config=str(folder))
