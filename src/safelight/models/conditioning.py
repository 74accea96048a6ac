"""Batching of denoiser calls: adds rows with other conditioning texts, and edits prompt embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safelight.models.denoiser import Arguments, Denoiser, TokenPositions
from safelight.models.patched_method import Method

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Branch:
    """A text to condition further predictions on, for some of the images; "" is unconditional."""

    text: str
    images: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DenoiserOutput:
    """The output of a denoiser: ``raw`` as returned, the ``rows`` of the call itself, and one per branch."""

    raw: Any
    rows: Tensor
    branches: Sequence[Tensor]

    def to_pipeline_output(self, rows: Tensor) -> Any:
        """Return ``rows`` in the form that the pipeline asked for: a tuple or an output object."""
        if isinstance(self.raw, tuple):
            return (rows, *self.raw[1:])
        return type(self.raw)(sample=rows)


@dataclass(frozen=True, slots=True)
class ProjectedCall:
    """A call from whose prompt embeddings concepts were projected out, and the size of the change.

    ``acting`` is the share of elements that changed, ``strength`` the norm of the change relative to the
    difference between prompt and unconditional embeddings, and ``cosine`` the similarity of the prompt to the
    nearest of its concepts. Each is (N,).
    """

    call: Arguments
    acting: Tensor
    strength: Tensor
    cosine: Tensor


class ConditioningBatch:
    """Predicts further rows in the denoiser calls of a pipeline. Encoded texts are cached.

    With ``fixed_batch`` every call of the network has as many rows as the pipeline's own, and texts are
    encoded one by one, so that a prediction does not depend on the other rows.
    """

    def __init__(self, denoiser: Denoiser, fixed_batch: bool = False) -> None:
        self._denoiser = denoiser
        self._fixed = fixed_batch
        self._encoded: dict[str, Arguments] = {}

    def clear_cache(self) -> None:
        """Clear the cache of encoded texts, which is valid during one call of the pipeline."""
        self._encoded.clear()

    def predict(self, network: Method, call: Arguments, branches: Sequence[Branch]) -> DenoiserOutput:
        """Predict the rows of a call and those of all branches.

        The row of a branch for image i equals row i of the call except for its text. In a call that begins
        with the unconditional rows, ε_S therefore differs from ε_0 in its text only.
        """
        count = len(self._denoiser.sample(call))
        copied = [image for each in branches for image in each.images]
        texts = [each.text for each in branches for _ in each.images]
        self._encode(texts, call)
        encoded = [self._encoded[text] for text in texts]
        sizes = [len(each.images) for each in branches]
        if self._fixed and branches:
            raw = network(**call)
            more = self._predict_in_batches(network, call, encoded, copied)
            return DenoiserOutput(raw, _output(raw), more.split(sizes))
        if branches:
            call = {**call, **_with_appended_rows(self._batched(call), encoded, count, copied)}
        raw = network(**call)
        output = _output(raw)
        return DenoiserOutput(raw, output[:count], output[count:].split(sizes) if branches else ())

    def _predict_in_batches(
        self, network: Method, call: Arguments, encoded: Sequence[Arguments], copied: Sequence[int]
    ) -> Tensor:
        """Return the outputs for further rows, from calls with as many rows as ``call``.

        The last of these calls is padded by repeating its last row.
        """
        import torch

        count = len(self._denoiser.sample(call))
        outputs = []
        for start in range(0, len(copied), count):
            rows, texts = list(copied[start : start + count]), list(encoded[start : start + count])
            row_count = len(rows)
            rows += rows[-1:] * (count - row_count)
            texts += texts[-1:] * (count - row_count)
            batch = _with_rows_replaced(self.select_rows(call, rows), texts, slice(None))
            outputs.append(_output(network(**batch))[:row_count])
        return torch.cat(outputs)

    def with_text(self, call: Arguments, text: str, images: int) -> Arguments:
        """Return the call with ``text`` in place of the texts of its first ``images`` rows."""
        return self._with_texts(call, [text] * images, slice(0, images))

    def with_texts(self, call: Arguments, texts: Sequence[str]) -> Arguments:
        """Return the call with one of ``texts`` in each of its first rows, without caching them."""
        edited = self._with_texts(call, texts, slice(0, len(texts)))
        self.clear_cache()
        return edited

    def similarity(self, call: Arguments, rows: slice, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return cosine similarities of the prompt embeddings in ``rows`` with each of ``texts``.

        The result is (rows, texts): the highest similarity of any token of the prompt to the last token of
        the text. The mean unconditional embedding, which all texts share, is subtracted from both.
        """
        cosines: NDArray[np.float32] = self._cosines(call, rows, texts).cpu().numpy()
        return cosines

    def _cosines(self, call: Arguments, rows: slice, texts: Sequence[str]) -> Tensor:
        import torch

        self._encode(("", *texts), call)
        states = call["encoder_hidden_states"][rows]
        uncond, *others = (self._encoded[text]["encoder_hidden_states"] for text in ("", *texts))
        cosines = []
        for positions in self._denoiser.token_positions(states.shape[1]):
            mean, directions = _directions(positions, uncond, dict(zip(texts, others, strict=True)))
            embeddings = _unit(states[:, positions.where].float() - mean)
            cosines.append((embeddings @ _unit(directions).T).amax(1))
        return torch.stack(cosines).amax(0)

    def project_out(self, call: Arguments, rows: slice, texts: Sequence[Sequence[str]]) -> ProjectedCall:
        """Return the call with the concepts in ``texts`` projected out of the embeddings of its ``rows``.

        The components in the directions of the texts are removed from the embedding of every token and from
        the pooled embedding.
        """
        import torch

        all_concepts = list(dict.fromkeys(text for concepts in texts for text in concepts))
        self._encode(("", *all_concepts), call)
        uncond = self._encoded[""]
        each = [
            self._projected(
                _row_of(uncond, call, row), uncond, {text: self._encoded[text] for text in concepts}
            )
            for row, concepts in zip(range(len(self._denoiser.sample(call)))[rows], texts, strict=True)
        ]
        projected = _with_rows_replaced(call, each, rows)
        before, after = (each["encoder_hidden_states"][rows].float() for each in (call, projected))
        own = (before - uncond["encoder_hidden_states"].float()).flatten(1).norm(dim=1)
        removed = (before - after).flatten(1)
        cosines = self._cosines(call, rows, all_concepts)
        is_own = torch.tensor(
            [[text in concepts for text in all_concepts] for concepts in texts], device=cosines.device
        )
        cosine = torch.where(is_own, cosines, -1.0).amax(1)
        return ProjectedCall(
            projected, (removed != 0).float().mean(1), removed.norm(dim=1) / own.clamp(min=1e-12), cosine
        )

    def _projected(self, embeddings: Any, uncond: Any, concepts: Mapping[str, Any]) -> Any:
        import torch

        if isinstance(embeddings, Mapping):
            return {
                name: self._projected(
                    value, uncond[name], {text: each[name] for text, each in concepts.items()}
                )
                for name, value in embeddings.items()
            }
        if not concepts:
            return embeddings
        if embeddings.ndim == 2:  # a pooled embedding
            return _remove_span(
                embeddings, uncond.float(), torch.cat(list(concepts.values())).float() - uncond
            )
        projected = embeddings.clone()
        for positions in self._denoiser.token_positions(embeddings.shape[1]):
            projected[:, positions.where] = _remove_span(
                embeddings[:, positions.where], *_directions(positions, uncond, concepts)
            )
        return projected

    def select_rows(self, call: Arguments, rows: slice | Sequence[int]) -> Arguments:
        """Return the call with only these rows; every row has its own timestep."""
        count = len(self._denoiser.sample(call))
        batched = self._batched({**call, "timestep": call["timestep"].expand(count)})
        return {**call, **_map(batched, lambda value: value[rows] if value.shape[:1] == (count,) else value)}

    def concatenate(self, calls: Sequence[Arguments]) -> Arguments:
        """Return one call with the rows of all calls, which must be equal in all other arguments."""
        return {**calls[0], **_concatenated([self._batched(call) for call in calls])}

    def _encode(self, texts: Sequence[str], call: Arguments) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self._encoded]
        for batch in ([text] for text in new) if self._fixed else filter(None, [new]):
            encoded = self._denoiser.encode_like(batch, call)
            for row, text in enumerate(batch):
                self._encoded[text] = _map(encoded, _select_row(row))

    def _with_texts(self, call: Arguments, texts: Sequence[str], rows: slice) -> Arguments:
        self._encode(texts, call)
        return _with_rows_replaced(call, [self._encoded[text] for text in texts], rows)

    def _batched(self, call: Arguments) -> Arguments:
        return {name: value for name, value in call.items() if name in self._denoiser.batched}


def _output(raw: Any) -> Tensor:
    """Return the prediction in the network's answer, which is a tuple or an output object."""
    output: Tensor = raw[0] if isinstance(raw, tuple) else raw.sample
    return output


def _map(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Apply ``change`` to every tensor in a nested structure."""
    if isinstance(value, Mapping):
        return {name: _map(each, change) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_map(each, change) for each in value)
    return change(value) if hasattr(value, "shape") else value


def _directions(
    positions: TokenPositions, uncond: Tensor, concepts: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the mean unconditional embedding, (C,), and the directions of the concepts, (concepts, C).

    A direction is the embedding of the concept's last token minus that mean.
    """
    import torch

    mean = uncond[0, positions.where].float().mean(0)
    last = torch.stack([states[0, positions.last(text)] for text, states in concepts.items()])
    return mean, last.float() - mean


def _remove_span(embeddings: Tensor, mean: Tensor, directions: Tensor) -> Tensor:
    """Remove from embeddings (…, C) their component in the span of ``directions`` (k, C) around ``mean``."""
    import torch

    inside = (embeddings.float() - mean) @ torch.linalg.pinv(directions) @ directions
    outside: Tensor = (embeddings.float() - inside).to(embeddings.dtype)
    return outside


def _row_of(pattern: Mapping[str, Any], call: Mapping[str, Any], row: int) -> Arguments:
    """Return one row of those arguments of the call that ``pattern`` has."""
    return {
        name: _row_of(value, call[name], row) if isinstance(value, Mapping) else call[name][row : row + 1]
        for name, value in pattern.items()
    }


def _concatenated(values: Sequence[Any]) -> Any:
    import torch

    first = values[0]
    if isinstance(first, Mapping):
        return {name: _concatenated([value[name] for value in values]) for name in first}
    return torch.cat(list(values)) if hasattr(first, "shape") else first


def _unit(value: Tensor) -> Tensor:
    unit: Tensor = value / value.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return unit


def _select_row(number: int) -> Callable[[Tensor], Tensor]:
    return lambda value: value[number : number + 1]


def _with_appended_rows(value: Any, encoded: Sequence[Any], count: int, copied: Sequence[int]) -> Any:
    """Append rows to every argument: the encoded texts, or else copies of the rows ``copied``.

    Arguments that do not have ``count`` rows are shared by all rows and stay unchanged.
    """
    import torch

    if isinstance(value, Mapping):
        return {
            name: _with_appended_rows(each, [row[name] for row in encoded if name in row], count, copied)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(_with_appended_rows(each, (), count, copied) for each in value)
    if encoded:
        return torch.cat([value, *encoded])
    if not hasattr(value, "shape") or not value.ndim or len(value) != count:
        return value
    return torch.cat([value, value[list(copied)]])


def _with_rows_replaced(call: Arguments, encoded: Sequence[Arguments], rows: slice) -> Arguments:
    """Return a copy of ``call`` with ``encoded`` in its ``rows``; tensors are not modified in place."""
    import torch

    merged = dict(call)
    for name, value in encoded[0].items():
        values = [each[name] for each in encoded]
        if isinstance(value, Mapping):
            merged[name] = _with_rows_replaced(call[name], values, rows)
        else:
            merged[name] = call[name].clone()
            merged[name][rows] = torch.cat(values)
    return merged
