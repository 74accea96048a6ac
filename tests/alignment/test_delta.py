"""Saving, applying and reverting deltas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipelines import draw
from safelight.alignment.delta import delta as deltas
from safelight.alignment.delta.delta import Delta, Provenance, part_sha256
from safelight.errors import ModelError

NAMES = ("conv_in.weight", "conv_in.bias")


def delta_of(made: Any, seed: int = 0, **about: Any) -> Delta:
    generator = torch.Generator().manual_seed(seed)
    parameters = dict(made.unet.named_parameters())
    changes = {f"unet.{n}": torch.randn(parameters[n].shape, generator=generator) for n in NAMES}
    base = {"unet": part_sha256(made, "unet")}
    return Delta(changes, Provenance("test", ("a gun",), "tiny", base, **about))


def values(made: Any) -> list[torch.Tensor]:
    return [made.unet.get_parameter(name).detach().clone() for name in NAMES]


def same(some: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def test_a_delta_is_read_as_it_was_saved(made: Any, tmp_path: Path) -> None:
    delta = delta_of(made, settings={"seed": 3}, proof={"changed": 2})
    delta.save(tmp_path / "some" / "gun.safetensors")
    again = Delta.load(tmp_path / "some" / "gun.safetensors")
    assert again.about == delta.about
    assert again.tensors.keys() == delta.tensors.keys()
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in delta.tensors.items())
    assert list((tmp_path / "some").iterdir()) == [tmp_path / "some" / "gun.safetensors"]
    (tmp_path / "any").touch()
    assert (tmp_path / "some" / "gun.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_deltas_add_up_and_are_reverted_in_any_order(made: Any) -> None:
    before, image = values(made), draw(made)
    one, other = delta_of(made), delta_of(made, 1)
    first = one.attach(made)
    assert np.abs(draw(made) - image).max() > 1e-3
    with other.attach(made, scale=-0.5):
        changes = zip(before, one.tensors.values(), other.tensors.values(), strict=True)
        expected = [old + a - 0.5 * b for old, a, b in changes]
        assert all(torch.allclose(now, then) for now, then in zip(values(made), expected, strict=True))
        first.detach()
        first.detach()
        changes = zip(before, other.tensors.values(), strict=True)
        assert same(values(made), [old - 0.5 * b for old, b in changes])
    assert same(values(made), before)
    assert (draw(made) == image).all()


def test_a_model_is_identified_by_its_weights_in_half_precision_whatever_is_applied(made: Any) -> None:
    one, other = delta_of(made), delta_of(made, 1)
    with one.attach(made), other.attach(made):
        pass
    half = made.to(torch.float16)
    before = values(half)
    with one.attach(half):
        assert values(half)[0].dtype == torch.float16
        assert not same(values(half), before)
    assert same(values(half), before)
    with torch.no_grad():
        half.unet.conv_out.bias += 1
    with pytest.raises(ModelError, match="is not that of tiny"):
        one.attach(half)
    one.attach(half, force=True).detach()


def test_parameters_stay_where_they_are(made: Any) -> None:
    address, delta = made.unet.conv_in.weight.data_ptr(), delta_of(made)
    with delta.attach(made):
        assert made.unet.conv_in.weight.data_ptr() == address
    made.unet = torch.compile(made.unet, backend="eager")
    image = draw(made)
    with delta.attach(made):
        assert np.abs(draw(made) - image).max() > 1e-3
    assert (draw(made) == image).all()


def test_a_delta_has_only_changed_parameters() -> None:
    about = Provenance("test", ("a gun",), "tiny", {})
    nothing, something = torch.zeros(3), torch.tensor([0.0, 2.0])
    with pytest.raises(ModelError, match="nothing was changed"):
        Delta.of({"unet.conv_in.bias": nothing}, about)
    assert Delta.of({"unet.a": nothing, "unet.b": something}, about).tensors == {"unet.b": something}


def test_another_model_is_refused_even_by_force(made: Any) -> None:
    delta = delta_of(made)
    renamed = Delta({"unet.conv_on.weight": torch.ones(1)}, delta.about)
    reshaped = Delta({"unet.conv_in.bias": torch.ones(3)}, delta.about)
    elsewhere = Delta({"transformer.conv_in.bias": torch.ones(3)}, delta.about)
    for wrong, said in ((renamed, "has no"), (reshaped, "another shape"), (elsewhere, "has no")):
        with pytest.raises(ModelError, match=said):
            wrong.attach(made, force=True)


def test_files_that_are_not_deltas_are_refused(tmp_path: Path, made: Any) -> None:
    with pytest.raises(ModelError, match="there is no delta"):
        Delta.load(tmp_path / "gone.safetensors")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ModelError, match="not a safetensors file"):
        Delta.load(tmp_path / "text")
    save_file({"unet.a": torch.ones(1)}, tmp_path / "plain")
    with pytest.raises(ModelError, match="is not a delta"):
        Delta.load(tmp_path / "plain")
    save_file({"unet.a": torch.ones(1)}, tmp_path / "later", {"format": "9", "safelight": "{}"})
    with pytest.raises(ModelError, match="another version"):
        Delta.load(tmp_path / "later")
    save_file({"unet.a": torch.ones(1)}, tmp_path / "odd", {"format": "1", "safelight": "[]"})
    with pytest.raises(ModelError, match="is not a delta"):
        Delta.load(tmp_path / "odd")


def test_files_are_written_completely_or_not_at_all(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delta, path = delta_of(made), tmp_path / "gun.safetensors"
    delta.save(path)
    kept = path.read_bytes()

    def full(*_: Any) -> None:
        (tmp_path / "gun.safetensors.part").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(ModelError, match=r"cannot be written: .*No space left.*nothing was"):
        delta.save(path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == kept


def test_a_model_is_what_it_was_after_a_delta_could_not_be_attached(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory runs out after the first of two parameters."""
    before, delta, set_values = values(made), delta_of(made), deltas._PatchedModule._set

    def failing(worn: Any, names: set[str]) -> None:
        monkeypatch.undo()
        set_values(worn, sorted(names)[:1])
        raise RuntimeError("out of memory")

    monkeypatch.setattr(deltas._PatchedModule, "_set", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        delta.attach(made)
    assert same(values(made), before)
