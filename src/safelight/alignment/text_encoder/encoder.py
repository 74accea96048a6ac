"""Text encoders: what each family of pipelines reads of which."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from safelight.errors import ModelError, RequestError, no_such
from safelight.models.denoiser import FluxTransformer, SD3Transformer, UNet, XLUNet, denoiser_of

if TYPE_CHECKING:
    from torch import Tensor, nn

States = Literal["last", "last but one", "none"]

# Of each encoder the states that a family reads, and whether it reads the pooled text.
_READ: Mapping[type, Mapping[str, tuple[States, bool]]] = {
    UNet: {"text_encoder": ("last", False)},
    XLUNet: {"text_encoder": ("last but one", False), "text_encoder_2": ("last but one", True)},
    SD3Transformer: {
        "text_encoder": ("last but one", True),
        "text_encoder_2": ("last but one", True),
        "text_encoder_3": ("last", False),
    },
    FluxTransformer: {"text_encoder": ("none", True), "text_encoder_2": ("last", False)},
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a pipeline reads of n texts: ``states`` (n, tokens, C) and ``pooled`` (n, P), or None of them; and
    what was ``given`` to some layer on the way, (n, tokens, C), or None."""

    states: Tensor | None
    pooled: Tensor | None
    given: Tensor | None = None

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """Each (n, places, C); a pooled text is one place."""
        pooled = None if self.pooled is None else self.pooled[:, None]
        return tuple(part for part in (self.states, pooled) if part is not None)

    @property
    def size_bytes(self) -> int:
        return sum(part.nbytes for part in (self.states, self.pooled, self.given) if part is not None)

    def rows(self, which: slice | Tensor) -> Reading:
        """Of some of the texts."""
        every = (self.states, self.pooled, self.given)
        return Reading(*(None if part is None else part[which] for part in every))

    def moved(self, by: Reading, times: float = 1.0) -> Reading:
        """Each state and pooled text so many times as far as ``by`` says."""
        both = ((self.states, by.states), (self.pooled, by.pooled))
        return Reading(*(None if a is None or b is None else a + times * b for a, b in both))

    def places(self, which: slice) -> Reading:
        """With some of the states."""
        return Reading(None if self.states is None else self.states[:, which], self.pooled)


def joined(readings: Sequence[Reading]) -> Reading:
    """Of all their texts, one after the other."""
    import torch

    def cat(parts: Sequence[Tensor | None]) -> Tensor | None:
        there = [part for part in parts if part is not None]
        return torch.cat(there) if there else None

    every = [(each.states, each.pooled, each.given) for each in readings]
    return Reading(*(cat([parts[i] for parts in every]) for i in range(3)))


class TextEncoder:
    """The one that ``pipe`` calls ``component``: "text_encoder", "text_encoder_2" or "text_encoder_3".

    Words begin with the ``first`` token: CLIP's stands before every text. So many states are ``constant``:
    CLIP reads from left to right, so that the state of that token is the same for all texts.
    """

    def __init__(self, pipe: Any, component: str) -> None:
        self.component = component
        self.module: nn.Module = getattr(pipe, component)
        self._tokenizer = getattr(pipe, component.replace("text_encoder", "tokenizer"))
        self._states, self._pooled = _READ[type(denoiser_of(pipe))][component]
        clip = str(getattr(self.module.config, "model_type", "")).startswith("clip")
        self.first = int(clip)
        self.constant = 0 if self._states == "none" else self.first
        self._length = _length(pipe, self._tokenizer, clip)
        self._tokenised: dict[tuple[str, int], Tensor] = {}

    def shortened(self, tokens: int) -> Self:
        """One that reads no more than so many tokens of each text; 0 is as many as this one."""
        other = copy.copy(self)
        other._length = min(tokens or self._length, self._length)
        return other

    def copied(self) -> Self:
        """One that stays as it is now, whatever becomes of the pipeline's."""
        other = copy.copy(self)
        other.module = copy.deepcopy(self.module)
        return other

    def halfway(self, layers: int) -> int:
        """How many layers of CLIP never change where the last so many, 0 for all, are trained. T5's first
        one tells all others how far words are from each other, so none can be left out."""
        return _blocks(self.module)[1] - layers if self.first and layers else 0

    def read_halfway(self, texts: Sequence[str], layer: int) -> Reading:
        """As the pipeline does, with what the layer with this number, from 0, is given."""
        given: list[Tensor] = []
        path, _ = _blocks(self.module)
        keep = self.module.get_submodule(path)[layer].register_forward_pre_hook(  # type: ignore[index]
            lambda _, inputs: given.append(inputs[0])
        )
        try:
            return replace(self.read(texts), given=given[0])
        finally:
            keep.remove()

    def read_on(self, texts: Sequence[str], layer: int, given: Tensor) -> Reading:
        """Beginning with the layer with this number, which is ``given`` what it was in ``read_halfway``."""
        with _begun(self.module, layer, given):
            return self.read(texts)

    def read(self, texts: Sequence[str], prefix: Tensor | None = None) -> Reading:
        """As the pipeline does, with gradients; with a ``prefix``, (n or 1, k, C), of so many embeddings
        before each text's words, for which as much is cut off its end."""
        extra = 0 if prefix is None else prefix.shape[1]
        ids = self._tokens(texts, self._length - extra).to(next(self.module.parameters()).device)
        if prefix is None:
            return self._reading(self.module(ids, output_hidden_states=True))
        ids = _with_room(ids, self.first, extra)
        with _put_in(self._tables(), prefix, self.first):
            return self._reading(self.module(ids, output_hidden_states=True))

    def _tokens(self, texts: Sequence[str], length: int) -> Tensor:
        """(n, length); prompts are read again and again while training, so each is taken apart once."""
        import torch

        if new := [each for each in dict.fromkeys(texts) if (each, length) not in self._tokenised]:
            rows = self._tokenizer(
                new, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
            ).input_ids
            self._tokenised.update(((each, length), row) for each, row in zip(new, rows, strict=True))
        return torch.stack([self._tokenised[each, length] for each in texts])

    @property
    def embeddings(self) -> Tensor:
        """Of its tokens, (tokens, C)."""
        table: Tensor = self.module.get_input_embeddings().weight  # type: ignore[operator]
        return table

    def _tables(self) -> list[nn.Module]:
        """T5 has two modules for the same table."""
        from torch import nn

        every = self.module.modules()
        return [each for each in every if isinstance(each, nn.Embedding) and each.weight is self.embeddings]

    def _reading(self, output: Any) -> Reading:
        states = {"last": output.last_hidden_state, "last but one": output.hidden_states[-2], "none": None}
        pooled = output.get("text_embeds", output.get("pooler_output")) if self._pooled else None
        return Reading(states[self._states], pooled)

    def trained(self, layers: int = 0) -> dict[str, nn.Parameter]:
        """The parameters of all layers, or of the last so many, and of what comes after them, by name; never
        the embeddings of tokens and places.

        Raises ``RequestError`` for more layers than there are.
        """
        from torch import nn

        blocks, count = _blocks(self.module)
        if not 0 <= layers <= count:
            raise RequestError(f"layers is {layers}; the {self.component} has {count}, and 0 is all of them.")
        embeddings = {
            f"{path}.{name}"
            for path, module in self.module.named_modules()
            if isinstance(module, nn.Embedding)
            for name, _ in module.named_parameters()
        }
        frozen = tuple(f"{blocks}.{i}." for i in range(count - layers)) if layers else ()
        return {
            name: parameter
            for name, parameter in self.module.named_parameters()
            if name not in embeddings and not name.startswith(frozen)
        }


def text_encoders(pipe: Any, names: Sequence[str] = ()) -> list[TextEncoder]:
    """All that ``pipe`` has, or those of these names.

    Raises ``RequestError`` for a name that it does not have, ``ModelError`` for a pipeline of a family that
    is not known.
    """
    read = _READ[type(denoiser_of(pipe))]
    there = [name for name in read if getattr(pipe, name, None) is not None]
    for name in names:
        if name not in there:
            raise RequestError(no_such("text encoder", name, there))
    if not there:
        raise ModelError("the pipeline has no text encoder; load it with one.")
    return [TextEncoder(pipe, name) for name in there if not names or name in names]


def _length(pipe: Any, tokenizer: Any, clip: bool) -> int:
    """In tokens, of what the pipeline reads."""
    if clip:
        return int(getattr(pipe, "tokenizer_max_length", None) or tokenizer.model_max_length)
    return int(inspect.signature(pipe.encode_prompt).parameters["max_sequence_length"].default)


def _blocks(module: nn.Module) -> tuple[str, int]:
    """The path of the layers one after the other, and how many there are."""
    from torch import nn

    lists = {path: each for path, each in module.named_modules() if isinstance(each, nn.ModuleList)}
    path = min(lists, key=len)  # a layer may have lists of its own
    return path, len(lists[path])


@contextmanager
def _begun(module: nn.Module, layer: int, given: Tensor) -> Iterator[None]:
    """While it lasts, the layers before this one are left out."""
    path, _ = _blocks(module)
    parent, _, name = path.rpartition(".")
    holder, layers = module.get_submodule(parent), module.get_submodule(path)
    kept = layers[layer:]  # type: ignore[index]
    give = kept[0].register_forward_pre_hook(lambda _, inputs: (given, *inputs[1:]))
    setattr(holder, name, kept)
    try:
        yield
    finally:
        setattr(holder, name, layers)
        give.remove()


def _with_room(ids: Tensor, first: int, extra: int) -> Tensor:
    """With any tokens where the prefix goes."""
    import torch

    return torch.cat([ids[:, :first], ids[:, first : first + 1].expand(-1, extra), ids[:, first:]], 1)


@contextmanager
def _put_in(tables: Sequence[nn.Module], prefix: Tensor, first: int) -> Iterator[None]:
    """While it lasts, tokens' embeddings from ``first`` on are those of the prefix."""
    import torch

    def put(_: Any, __: Any, embedded: Tensor) -> Tensor:
        mine = prefix.to(embedded).expand(len(embedded), -1, -1)
        return torch.cat([embedded[:, :first], mine, embedded[:, first + mine.shape[1] :]], 1)

    hooks = [table.register_forward_hook(put) for table in tables]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
