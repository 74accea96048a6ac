"""More rows for a call of the denoiser: the same samples with other texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safelight.models.denoiser import Arguments, Denoiser, Words
from safelight.models.patched_method import Method

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Branch:
    """A text to ask the denoiser about, for some of the images; "" is no text."""

    text: str
    images: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a denoiser said: about the rows of the call, and about each thing wanted."""

    raw: Any
    rows: Tensor
    wanted: Sequence[Tensor]

    def of(self, rows: Tensor) -> Any:
        """The answer that the pipeline gets, in the form in which it asked for it."""
        if isinstance(self.raw, tuple):
            return (rows, *self.raw[1:])
        return type(self.raw)(sample=rows)


@dataclass(frozen=True, slots=True)
class ProjectedCall:
    """A call of which something was left out, and how much of each image's prompt: the share of its states
    that is changed, how large the change is beside the prompt's difference from no text, and how near the
    prompt was to what was left out. Each (N,)."""

    call: Arguments
    acting: Tensor
    strength: Tensor
    cosine: Tensor


class ConditioningBatch:
    """Asks about more rows than a pipeline does. Texts are encoded once for each of its calls.

    With ``fixed_batch`` every call of the network has as many rows as the pipeline's own, and texts are
    encoded one by one: a result then does not depend on what else is asked.
    """

    def __init__(self, denoiser: Denoiser, fixed_batch: bool = False) -> None:
        self._denoiser = denoiser
        self._fixed = fixed_batch
        self._encoded: dict[str, Arguments] = {}

    def forget(self) -> None:
        self._encoded.clear()

    def ask(self, network: Method, call: Arguments, wanted: Sequence[Branch]) -> Answer:
        """A further row is like that of the same number in everything but its text: in a call that begins
        with the rows of no text, ε_S differs from ε_0 in that alone."""
        count = len(self._denoiser.sample(call))
        like = [image for each in wanted for image in each.images]
        texts = [each.text for each in wanted for _ in each.images]
        self._encode(texts, call)
        encoded = [self._encoded[text] for text in texts]
        sizes = [len(each.images) for each in wanted]
        if self._fixed and wanted:
            raw = network(**call)
            more = self._ask_apart(network, call, encoded, like)
            return Answer(raw, _output(raw), more.split(sizes))
        if wanted:
            call = {**call, **_longer(self._batched(call), encoded, count, like)}
        raw = network(**call)
        output = _output(raw)
        return Answer(raw, output[:count], output[count:].split(sizes) if wanted else ())

    def _ask_apart(
        self, network: Method, call: Arguments, encoded: Sequence[Arguments], like: Sequence[int]
    ) -> Tensor:
        """The outputs for further rows, from calls of the same number of rows as ``call`` has: the last row
        is repeated where there are too few."""
        import torch

        count = len(self._denoiser.sample(call))
        outputs = []
        for start in range(0, len(like), count):
            rows, texts = list(like[start : start + count]), list(encoded[start : start + count])
            asked = len(rows)
            rows += rows[-1:] * (count - asked)
            texts += texts[-1:] * (count - asked)
            about = _merged(self.only(call, rows), texts, slice(None))
            outputs.append(_output(network(**about))[:asked])
        return torch.cat(outputs)

    def with_text(self, call: Arguments, text: str, images: int) -> Arguments:
        """The call with another text in its first rows."""
        return self._with_texts(call, [text] * images, slice(0, images))

    def with_texts(self, call: Arguments, texts: Sequence[str]) -> Arguments:
        """The call with a text in each row, of which none is remembered."""
        told = self._with_texts(call, texts, slice(0, len(texts)))
        self.forget()
        return told

    def similarity(self, call: Arguments, rows: slice, texts: Sequence[str]) -> NDArray[np.float32]:
        """Cosines of what the network is told in ``rows`` with each of ``texts``, (rows, texts): of the token
        that comes nearest to the text's last one.

        All are taken from the mean of no text, which every text has much of.
        """
        cosines: NDArray[np.float32] = self._cosines(call, rows, texts).cpu().numpy()
        return cosines

    def _cosines(self, call: Arguments, rows: slice, texts: Sequence[str]) -> Tensor:
        import torch

        self._encode(("", *texts), call)
        states = call["encoder_hidden_states"][rows]
        nothing, *others = (self._encoded[text]["encoder_hidden_states"] for text in ("", *texts))
        cosines = []
        for words in self._denoiser.words(states.shape[1]):
            middle, directions = _directions(words, nothing, dict(zip(texts, others, strict=True)))
            said = _unit(states[:, words.where].float() - middle)
            cosines.append((said @ _unit(directions).T).amax(1))
        return torch.stack(cosines).amax(0)

    def without(self, call: Arguments, rows: slice, texts: Sequence[Sequence[str]]) -> ProjectedCall:
        """The call as if its ``rows`` said nothing of their ``texts``.

        From what is said, word by word and as a whole, all is taken that lies in the directions of the texts.
        """
        import torch

        every = list(dict.fromkeys(text for mine in texts for text in mine))
        self._encode(("", *every), call)
        nothing = self._encoded[""]
        each = [
            self._left(_like(nothing, call, row), nothing, {text: self._encoded[text] for text in mine})
            for row, mine in zip(range(len(self._denoiser.sample(call)))[rows], texts, strict=True)
        ]
        left = _merged(call, each, rows)
        before, after = (of["encoder_hidden_states"][rows].float() for of in (call, left))
        own = (before - nothing["encoder_hidden_states"].float()).flatten(1).norm(dim=1)
        taken = (before - after).flatten(1)
        cosines = self._cosines(call, rows, every)
        wanted = torch.tensor([[text in mine for text in every] for mine in texts], device=cosines.device)
        cosine = torch.where(wanted, cosines, -1.0).amax(1)
        return ProjectedCall(
            left, (taken != 0).float().mean(1), taken.norm(dim=1) / own.clamp(min=1e-12), cosine
        )

    def _left(self, said: Any, nothing: Any, concepts: Mapping[str, Any]) -> Any:
        import torch

        if isinstance(said, Mapping):
            return {
                name: self._left(value, nothing[name], {text: each[name] for text, each in concepts.items()})
                for name, value in said.items()
            }
        if not concepts:
            return said
        if said.ndim == 2:  # a whole text
            return _outside(said, nothing.float(), torch.cat(list(concepts.values())).float() - nothing)
        left = said.clone()
        for words in self._denoiser.words(said.shape[1]):
            left[:, words.where] = _outside(said[:, words.where], *_directions(words, nothing, concepts))
        return left

    def only(self, call: Arguments, rows: slice | Sequence[int]) -> Arguments:
        """The call about these rows alone; each has a timestep of its own."""
        count = len(self._denoiser.sample(call))
        batched = self._batched({**call, "timestep": call["timestep"].expand(count)})
        return {**call, **_map(batched, lambda value: value[rows] if value.shape[:1] == (count,) else value)}

    def joined(self, calls: Sequence[Arguments]) -> Arguments:
        """One call about the rows of all, which differ in nothing but these."""
        return {**calls[0], **_joined([self._batched(call) for call in calls])}

    def _encode(self, texts: Sequence[str], call: Arguments) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self._encoded]
        for batch in ([text] for text in new) if self._fixed else filter(None, [new]):
            encoded = self._denoiser.texts(batch, call)
            for row, text in enumerate(batch):
                self._encoded[text] = _map(encoded, _row(row))

    def _with_texts(self, call: Arguments, texts: Sequence[str], rows: slice) -> Arguments:
        self._encode(texts, call)
        return _merged(call, [self._encoded[text] for text in texts], rows)

    def _batched(self, call: Arguments) -> Arguments:
        return {name: value for name, value in call.items() if name in self._denoiser.batched}


def _output(raw: Any) -> Tensor:
    """Return the prediction in the network's answer, which is a tuple or an output object."""
    output: Tensor = raw[0] if isinstance(raw, tuple) else raw.sample
    return output


def _map(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Every tensor in ``value``, however deep, changed."""
    if isinstance(value, Mapping):
        return {name: _map(each, change) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_map(each, change) for each in value)
    return change(value) if hasattr(value, "shape") else value


def _directions(words: Words, nothing: Tensor, concepts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The mean of no text, (C,), and where the last token of each concept lies from there, (concepts, C)."""
    import torch

    middle = nothing[0, words.where].float().mean(0)
    last = torch.stack([states[0, words.last(text)] for text, states in concepts.items()])
    return middle, last.float() - middle


def _outside(said: Tensor, middle: Tensor, directions: Tensor) -> Tensor:
    """``said``, (…, C), less its projection, seen from ``middle``, on what ``directions``, (k, C), span."""
    import torch

    inside = (said.float() - middle) @ torch.linalg.pinv(directions) @ directions
    outside: Tensor = (said.float() - inside).to(said.dtype)
    return outside


def _like(pattern: Mapping[str, Any], call: Mapping[str, Any], row: int) -> Arguments:
    """Of the call, what ``pattern`` has, in one row."""
    return {
        name: _like(value, call[name], row) if isinstance(value, Mapping) else call[name][row : row + 1]
        for name, value in pattern.items()
    }


def _joined(values: Sequence[Any]) -> Any:
    import torch

    first = values[0]
    if isinstance(first, Mapping):
        return {name: _joined([value[name] for value in values]) for name in first}
    return torch.cat(list(values)) if hasattr(first, "shape") else first


def _unit(value: Tensor) -> Tensor:
    unit: Tensor = value / value.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return unit


def _row(number: int) -> Callable[[Tensor], Tensor]:
    return lambda value: value[number : number + 1]


def _longer(value: Any, encoded: Sequence[Any], count: int, like: Sequence[int]) -> Any:
    """With rows added, ``encoded`` or, what is not, ``like`` others; what does not have ``count`` rows is one
    for all."""
    import torch

    if isinstance(value, Mapping):
        return {
            name: _longer(each, [row[name] for row in encoded if name in row], count, like)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(_longer(each, (), count, like) for each in value)
    if encoded:
        return torch.cat([value, *encoded])
    if not hasattr(value, "shape") or not value.ndim or len(value) != count:
        return value
    return torch.cat([value, value[list(like)]])


def _merged(call: Arguments, encoded: Sequence[Arguments], rows: slice) -> Arguments:
    """``call`` with ``encoded`` in its ``rows``; nothing that was given is written to."""
    import torch

    merged = dict(call)
    for name, value in encoded[0].items():
        these = [each[name] for each in encoded]
        if isinstance(value, Mapping):
            merged[name] = _merged(call[name], these, rows)
        else:
            merged[name] = call[name].clone()
            merged[name][rows] = torch.cat(these)
    return merged
