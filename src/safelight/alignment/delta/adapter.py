"""What of a network is trained: its weights themselves, or a low-rank change beside them."""

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
    """``parameters`` are trained, by name, and no others of ``module`` while it is on."""

    parameters: Mapping[str, nn.Parameter]

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._wanted = {name: each.requires_grad for name, each in module.named_parameters()}
        module.requires_grad_(False)

    @abstractmethod
    def off(self) -> Any:
        """A context in which the network is what it was before."""

    @abstractmethod
    def differences(self) -> dict[str, Tensor]:
        """What has become of the network's weights, by their names, in full precision."""

    def remove(self) -> None:
        """The network is bit for bit what it was."""
        for name, parameter in self._module.named_parameters():
            parameter.requires_grad_(self._wanted[name])
            parameter.grad = None


class Whole(Adapter):
    """The weights ``chosen`` themselves; a copy of them is kept."""

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
    """Beside each matrix W of ``chosen`` a B A of ``rank`` (LoRA: Hu et al. 2021, arXiv:2106.09685, eq. 3,
    with α = r): B begins as nothing, A at random from ``seed``.

    Of linear layers and plain convolutions, whose A then is the convolution; biases and norms stay as they
    are. Nothing of the network is copied, for without it the network is what it was.

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
            raise ModelError(f"nothing that was chosen of a {type(module).__name__} can be of low rank.")
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
            layer.register_forward_hook(self._beside(*self._factors[name])) for name, layer in layers.items()
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

    def _beside(self, down: Tensor, up: Tensor) -> Callable[[Any, tuple[Tensor, ...], Tensor], Tensor]:
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
    """Whose ``weight`` the parameter is, if it can have a change of low rank beside it."""
    from torch import nn

    path, _, last = name.rpartition(".")
    layer = module.get_submodule(path)
    plain = isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros"
    return layer if last == "weight" and (isinstance(layer, nn.Linear) or plain) else None


def _factors(weight: Tensor, rank: int, random: torch.Generator) -> tuple[nn.Parameter, nn.Parameter]:
    """A, (r, …), and B, (out, r); A has the spread that layers begin with, 1/√(3 inputs)."""
    import torch

    shape = (rank, *weight.shape[1:])
    down = torch.randn(shape, generator=random) / (3 * weight[0].numel()) ** 0.5
    return (
        torch.nn.Parameter(down.to(weight)),
        torch.nn.Parameter(weight.new_zeros(len(weight), rank)),
    )
