"""Training whole weights and low-rank additions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from safelight.alignment.delta.adapter import Adapter, LowRank, Whole
from safelight.errors import ModelError, RequestError


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.GroupNorm(2, 6),
        nn.Conv2d(6, 6, 3, groups=2),
        nn.Conv2d(6, 4, 3, padding="same", dilation=2),
        nn.Flatten(),
        nn.Linear(36, 5),
    )


X = torch.linspace(-1, 1, 2 * 3 * 9 * 9).view(2, 3, 9, 9)


def chosen(network: nn.Module) -> dict[str, nn.Parameter]:
    return dict(network.named_parameters())


def train(adapter: Adapter) -> None:
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapter.parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=random))


def test_whole_weights_can_be_disabled_and_removed(network: nn.Sequential) -> None:
    before, only = network(X), {"5.bias": network[5].bias}
    network[0].bias.requires_grad_(False)
    adapter = Whole(network, only)
    assert [name for name, each in network.named_parameters() if each.requires_grad] == ["5.bias"]
    with torch.no_grad():
        network[5].bias += 2
    with adapter.off():
        assert torch.equal(network(X), before)
    assert torch.allclose(network(X), before + 2)
    assert torch.allclose(adapter.differences()["5.bias"], torch.tensor(2.0))
    adapter.remove()
    assert torch.equal(network(X), before)
    assert [name for name, each in network.named_parameters() if not each.requires_grad] == ["0.bias"]


def test_low_rank_is_what_its_product_adds(network: nn.Sequential) -> None:
    """Outputs equal those with B A added to W by hand; at first B is zero."""
    before = network(X)
    adapter = LowRank(network, chosen(network), 2)
    assert torch.equal(network(X), before)
    train(adapter)
    led = network(X)
    assert not torch.allclose(led, before, atol=0.1)
    with adapter.off():
        assert torch.equal(network(X), before)
    differences = adapter.differences()
    assert differences.keys() == {"0.weight", "3.weight", "5.weight"}
    assert all(int(torch.linalg.matrix_rank(each.flatten(1))) == 2 for each in differences.values())
    adapter.remove()
    assert torch.equal(network(X), before)
    with torch.no_grad():
        for name, difference in differences.items():
            network.get_parameter(name).add_(difference)
    assert torch.allclose(network(X), led, atol=1e-5)


def test_low_rank_trains_its_factors_alone(network: nn.Sequential) -> None:
    adapter = LowRank(network, chosen(network), 1)
    train(adapter)
    network(X).square().sum().backward()
    assert all(parameter.grad is not None for parameter in adapter.parameters.values())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert {tuple(each.shape) for each in adapter.parameters.values()} >= {
        (1, 3, 3, 3),
        (6, 1),
        (1, 36),
        (5, 1),
    }


def test_parameters_without_a_low_rank_addition_are_refused(network: nn.Sequential) -> None:
    for names in ((), ("5.bias", "1.weight", "2.weight")):
        with pytest.raises(ModelError, match="can be trained with a low rank"):
            LowRank(network, {name: network.get_parameter(name) for name in names}, 2)
    with pytest.raises(RequestError, match="rank is 0"):
        LowRank(network, chosen(network), 0)
    assert all(each.requires_grad for each in network.parameters())
