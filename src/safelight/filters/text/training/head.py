"""The head of the prompt classifier: its loss, and its fit to the embeddings of a frozen encoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from safelight.filters.text.training.targets import Targets

_PENALTY = 1.0
_SMOOTHING = 0.05
_ITERATIONS = 150


def fit_head(embedded: Tensor, targets: Targets, weights: Tensor) -> nn.Linear:
    """Fit a regularised logistic regression to embeddings (N, width); ``weights`` (N,) have mean 1."""
    head = nn.Linear(embedded.shape[1], 1 + targets.categories.shape[1])
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    # Relative to the embeddings' size, so that the penalty means the same for every encoder.
    scale = _PENALTY * embedded.pow(2).sum(1).mean() / (2 * len(embedded))

    def loss() -> Tensor:
        fitted = (losses(head(embedded), targets) * weights).mean()
        return fitted + scale * head.weight.pow(2).sum()

    minimise(list(head.parameters()), loss)
    return head


def losses(logits: Tensor, targets: Targets) -> Tensor:
    """Return the loss of each text (N,) for logits (N, 1 + categories).

    It is the cross-entropy of harm with label smoothing, plus the mean cross-entropy of the categories as
    far as they are known.
    """
    harm, categories, weights = (
        torch.from_numpy(part).to(logits.device)
        for part in (targets.harm, targets.categories, targets.weights)
    )
    softened = harm * (1 - 2 * _SMOOTHING) + _SMOOTHING
    loss = functional.binary_cross_entropy_with_logits(logits[:, 0], softened, reduction="none")
    kinds = functional.binary_cross_entropy_with_logits(logits[:, 1:], categories, reduction="none")
    return loss + kinds.mean(1) * weights


def minimise(parameters: list[Tensor], loss_of: Callable[[], Tensor]) -> None:
    """Minimise a loss over few parameters with L-BFGS, in place."""
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimiser = torch.optim.LBFGS(parameters, max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = loss_of()
        loss.backward()
        return loss

    optimiser.step(closure)
