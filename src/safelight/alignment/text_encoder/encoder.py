"""Text encoders, and which of their outputs each family of pipelines uses."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from safelight.errors import ModelError, RequestError, unknown_name
from safelight.models.denoiser import FluxTransformer, SD3Transformer, UNet, XLUNet, denoiser_of

if TYPE_CHECKING:
    from torch import Tensor, nn

States = Literal["last", "last but one", "none"]

# For each pipeline family and text encoder: the hidden states used, and whether the pooled output is used.
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
    """The outputs of a text encoder that a pipeline uses, for n texts.

    ``states`` are the token embeddings, (n, tokens, C), and ``pooled`` is the pooled output, (n, P); each is
    None if it is not used. ``input`` is the input of one of the encoder's layers, (n, tokens, C), or None.
    """

    states: Tensor | None
    pooled: Tensor | None
    input: Tensor | None = None

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """Return the outputs, each (n, positions, C); the pooled output has one position."""
        pooled = None if self.pooled is None else self.pooled[:, None]
        return tuple(part for part in (self.states, pooled) if part is not None)

    @property
    def size_bytes(self) -> int:
        return sum(part.nbytes for part in (self.states, self.pooled, self.input) if part is not None)

    def rows(self, which: slice | Tensor) -> Reading:
        """Return the outputs for some of the texts."""
        every = (self.states, self.pooled, self.input)
        return Reading(*(None if part is None else part[which] for part in every))

    def moved(self, by: Reading, times: float = 1.0) -> Reading:
        """Return the outputs plus ``times`` the outputs of ``by``."""
        both = ((self.states, by.states), (self.pooled, by.pooled))
        return Reading(*(None if a is None or b is None else a + times * b for a, b in both))

    def positions(self, which: slice) -> Reading:
        """Return the outputs with the token embeddings of these positions only."""
        return Reading(None if self.states is None else self.states[:, which], self.pooled)


def joined(readings: Sequence[Reading]) -> Reading:
    """Return the outputs for the texts of all readings, concatenated."""
    import torch

    def cat(parts: Sequence[Tensor | None]) -> Tensor | None:
        used = [part for part in parts if part is not None]
        return torch.cat(used) if used else None

    every = [(each.states, each.pooled, each.input) for each in readings]
    return Reading(*(cat([parts[i] for parts in every]) for i in range(3)))


class TextEncoder:
    """The text encoder of ``pipe`` with the name ``component``, such as "text_encoder" or "text_encoder_2".

    The words of a text begin at token ``first``, as CLIP puts a start token before every text. The first
    ``constant`` token embeddings are the same for all texts, because CLIP's attention is causal.
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
        self._token_ids: dict[tuple[str, int], Tensor] = {}

    def shortened(self, tokens: int) -> Self:
        """Return an encoder that truncates each text to this number of tokens; 0 keeps the maximum length."""
        other = copy.copy(self)
        other._length = min(tokens or self._length, self._length)
        return other

    def copied(self) -> Self:
        """Return an encoder with a copy of the module, which later training does not change."""
        other = copy.copy(self)
        other.module = copy.deepcopy(self.module)
        return other

    def frozen_layers(self, layers: int) -> int:
        """Return how many of the first layers are frozen if the last ``layers`` are trained; 0 trains all.

        It is 0 for T5, whose first layer computes the relative positions for all others and cannot be
        skipped.
        """
        return _blocks(self.module)[1] - layers if self.first and layers else 0

    def read_with_input(self, texts: Sequence[str], layer: int) -> Reading:
        """Encode texts as the pipeline does, and keep the input of this layer, counted from 0."""
        inputs_seen: list[Tensor] = []
        path, _ = _blocks(self.module)
        keep = self.module.get_submodule(path)[layer].register_forward_pre_hook(  # type: ignore[index]
            lambda _, inputs: inputs_seen.append(inputs[0])
        )
        try:
            return replace(self.read(texts), input=inputs_seen[0])
        finally:
            keep.remove()

    def read_from(self, texts: Sequence[str], layer: int, layer_input: Tensor) -> Reading:
        """Run the encoder from this layer on, with the layer's input from ``read_with_input``."""
        with _starting_at(self.module, layer, layer_input):
            return self.read(texts)

    def read(self, texts: Sequence[str], prefix: Tensor | None = None) -> Reading:
        """Encode texts as the pipeline does, with gradients.

        A ``prefix`` of k embeddings, (n or 1, k, C), is inserted before the words of each text, whose last k
        tokens are cut off.
        """
        extra = 0 if prefix is None else prefix.shape[1]
        ids = self._tokens(texts, self._length - extra).to(next(self.module.parameters()).device)
        if prefix is None:
            return self._reading(self.module(ids, output_hidden_states=True))
        ids = _with_space(ids, self.first, extra)
        with _prefixed(self._tables(), prefix, self.first):
            return self._reading(self.module(ids, output_hidden_states=True))

    def _tokens(self, texts: Sequence[str], length: int) -> Tensor:
        """Return the token ids, (n, length), cached, since training uses each prompt many times."""
        import torch

        if new := [each for each in dict.fromkeys(texts) if (each, length) not in self._token_ids]:
            rows = self._tokenizer(
                new, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
            ).input_ids
            self._token_ids.update(((each, length), row) for each, row in zip(new, rows, strict=True))
        return torch.stack([self._token_ids[each, length] for each in texts])

    @property
    def embeddings(self) -> Tensor:
        """Return the token embeddings, (vocabulary, C)."""
        table: Tensor = self.module.get_input_embeddings().weight  # type: ignore[operator]
        return table

    def _tables(self) -> list[nn.Module]:
        """Return the modules of the token embeddings; T5 has two for the same weights."""
        from torch import nn

        every = self.module.modules()
        return [each for each in every if isinstance(each, nn.Embedding) and each.weight is self.embeddings]

    def _reading(self, output: Any) -> Reading:
        states = {"last": output.last_hidden_state, "last but one": output.hidden_states[-2], "none": None}
        pooled = output.get("text_embeds", output.get("pooler_output")) if self._pooled else None
        return Reading(states[self._states], pooled)

    def trained(self, layers: int = 0) -> dict[str, nn.Parameter]:
        """Return the parameters to train, by name: those of the last ``layers`` and of what follows them.

        0 selects all layers. Token and position embeddings are never included. Raises ``RequestError`` for
        more layers than there are.
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
    """Return the text encoders of ``pipe``, or those of these names.

    Raises ``RequestError`` for a name that it does not have, and ``ModelError`` for a pipeline of an
    unknown family.
    """
    read = _READ[type(denoiser_of(pipe))]
    known = [name for name in read if getattr(pipe, name, None) is not None]
    for name in names:
        if name not in known:
            raise RequestError(unknown_name("text encoder", name, known))
    if not known:
        raise ModelError("the pipeline has no text encoder; load it with one.")
    return [TextEncoder(pipe, name) for name in known if not names or name in names]


def _length(pipe: Any, tokenizer: Any, clip: bool) -> int:
    """Return the number of tokens that the pipeline reads."""
    if clip:
        return int(getattr(pipe, "tokenizer_max_length", None) or tokenizer.model_max_length)
    return int(inspect.signature(pipe.encode_prompt).parameters["max_sequence_length"].default)


def _blocks(module: nn.Module) -> tuple[str, int]:
    """Return the path of the list of layers, and how many there are."""
    from torch import nn

    lists = {path: each for path, each in module.named_modules() if isinstance(each, nn.ModuleList)}
    path = min(lists, key=len)  # layers may contain lists of modules themselves
    return path, len(lists[path])


@contextmanager
def _starting_at(module: nn.Module, layer: int, layer_input: Tensor) -> Iterator[None]:
    """Skip the layers before this one inside the context."""
    path, _ = _blocks(module)
    parent, _, name = path.rpartition(".")
    holder, layers = module.get_submodule(parent), module.get_submodule(path)
    kept = layers[layer:]  # type: ignore[index]
    hook = kept[0].register_forward_pre_hook(lambda _, inputs: (layer_input, *inputs[1:]))
    setattr(holder, name, kept)
    try:
        yield
    finally:
        setattr(holder, name, layers)
        hook.remove()


def _with_space(ids: Tensor, first: int, extra: int) -> Tensor:
    """Insert ``extra`` arbitrary tokens at the position of the prefix."""
    import torch

    return torch.cat([ids[:, :first], ids[:, first : first + 1].expand(-1, extra), ids[:, first:]], 1)


@contextmanager
def _prefixed(tables: Sequence[nn.Module], prefix: Tensor, first: int) -> Iterator[None]:
    """Replace the token embeddings from ``first`` on by the prefix inside the context."""
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
