"""Adapters: training of a network's weights themselves, or of a low-rank addition to them (LoRA)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from safelight.errors import ModelError, RequestError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Adapter(ABC):
    """The trainable ``parameters`` of a network, by name; all others of ``module`` are frozen."""

    parameters: Mapping[str, nn.Parameter]

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._required_grad = {name: each.requires_grad for name, each in module.named_parameters()}
        module.requires_grad_(False)

    @abstractmethod
    def off(self) -> Any:
        """Return a context in which the network behaves as before training."""

    @abstractmethod
    def differences(self) -> dict[str, Tensor]:
        """Return the changes of the network's weights, by name, in full precision."""

    def remove(self) -> None:
        """Restore the network bit for bit."""
        for name, parameter in self._module.named_parameters():
            parameter.requires_grad_(self._required_grad[name])
            parameter.grad = None


class Whole(Adapter):
    """Trains the weights ``chosen`` themselves, and keeps a copy of their original values."""

    def __init__(self, module: nn.Module, chosen: Mapping[str, nn.Parameter]) -> None:
        super().__init__(module)
        self.parameters = dict(chosen)
        self._before = {name: parameter.detach().clone() for name, parameter in chosen.items()}
        for parameter in chosen.values():
            parameter.requires_grad_()

    @contextmanager
    def off(self) -> Iterator[None]:
        now = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        self._put(self._before)
        try:
            yield
        finally:
            self._put(now)

    def differences(self) -> dict[str, Tensor]:
        return {
            name: parameter.detach().float() - self._before[name].float()
            for name, parameter in self.parameters.items()
        }

    def remove(self) -> None:
        self._put(self._before)
        super().remove()

    def _put(self, values: Mapping[str, Tensor]) -> None:
        import torch

        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(values[name])


class LowRank(Adapter):
    """Trains a product B A of ``rank`` added to each matrix W of ``chosen``; W stays frozen.

    This is LoRA (Hu et al. 2021, arXiv:2106.09685, eq. 3) with α = r: B is initialized with zeros, A randomly
    from ``seed``. It supports linear layers and convolutions without groups, where A is a convolution of the
    same kernel size and B is 1 × 1; biases and norms stay frozen. No weights are copied, as the network's own
    weights do not change.

    Raises ``ModelError`` if none of ``chosen`` is such a matrix, ``RequestError`` for a rank below 1.
    """

    def __init__(
        self, module: nn.Module, chosen: Mapping[str, nn.Parameter], rank: int, seed: int = 0
    ) -> None:
        import torch

        if rank < 1:
            raise RequestError(f"the rank is {rank}; it must be at least 1.")
        layers = {name: layer for name in chosen if (layer := _layer(module, name)) is not None}
        if not layers:
            raise ModelError(
                f"none of the chosen parameters of {type(module).__name__} can be trained with a low rank."
            )
        super().__init__(module)
        random = torch.Generator().manual_seed(seed)
        self._factors = {name: _factors(layer.weight, rank, random) for name, layer in layers.items()}
        self.parameters = {
            f"{name}.{which}": factor
            for name, factors in self._factors.items()
            for which, factor in zip(("down", "up"), factors, strict=True)
        }
        self._on = True
        self._hooks = [
            layer.register_forward_hook(self._hook_of(*self._factors[name])) for name, layer in layers.items()
        ]

    @contextmanager
    def off(self) -> Iterator[None]:
        self._on = False
        try:
            yield
        finally:
            self._on = True

    def differences(self) -> dict[str, Tensor]:
        return {
            name: (up.detach().float() @ down.detach().float().flatten(1)).view(len(up), *down.shape[1:])
            for name, (down, up) in self._factors.items()
        }

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()
        super().remove()

    def _hook_of(self, down: Tensor, up: Tensor) -> Callable[[Any, tuple[Tensor, ...], Tensor], Tensor]:
        from torch.nn import functional

        def hook(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if not self._on:
                return output
            if down.ndim == 2:
                return output + functional.linear(functional.linear(inputs[0], down), up)
            within = functional.conv2d(inputs[0], down, None, layer.stride, layer.padding, layer.dilation)
            return output + functional.conv2d(within, up[:, :, None, None])

        return hook


def _layer(module: nn.Module, name: str) -> Any:
    """Return the layer whose ``weight`` has this name; None if it does not support a low-rank addition."""
    from torch import nn

    path, _, last = name.rpartition(".")
    layer = module.get_submodule(path)
    plain = isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros"
    return layer if last == "weight" and (isinstance(layer, nn.Linear) or plain) else None


def _factors(weight: Tensor, rank: int, random: torch.Generator) -> tuple[nn.Parameter, nn.Parameter]:
    """Return A, of shape (r, …), and B, of shape (out, r); A has PyTorch's initial scale, 1/√(3 inputs)."""
    import torch

    shape = (rank, *weight.shape[1:])
    down = torch.randn(shape, generator=random) / (3 * weight[0].numel()) ** 0.5
    return (
        torch.nn.Parameter(down.to(weight)),
        torch.nn.Parameter(weight.new_zeros(len(weight), rank)),
    )
