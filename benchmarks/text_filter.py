"""Time of a prompt in our text filters, in two peers, and in a plain classifier of the same size."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import safelight
from safelight.filters.text.child_safety import ChildSafety
from safelight.filters.text.classifier import PromptClassifier
from safelight.filters.text.lexicon import Lexicon
from safelight.filters.text.training.grammar import generate_texts
from timing import cores, seconds

PACKAGED = Path(safelight.__file__).parent / "filters/text/classifiers/general"
_ALONE, _TOGETHER, _SEED = 300, 1000, 7

Reader = Callable[[Sequence[str]], object]


def measure() -> tuple[dict[str, Any], dict[str, float | None]]:
    """Milliseconds a prompt are medians over 300, one at a time, on one core."""
    prompts = [text.prompt for text in islice(generate_texts(_SEED), _TOGETHER)]
    guard = safelight.Guard.from_policy("general", stages=("prompt",))
    with cores(1):
        costs = {name: _milliseconds(read, prompts[:_ALONE]) for name, read in _readers(guard).items()}
    ours = costs["policy general"]
    peers = ("better-profanity", "alt-profanity-check", "transformers, fp32")
    return {"prompts": _TOGETHER, "characters, median": median(map(len, prompts))}, {
        **{f"{name}: ms a prompt": cost for name, cost in costs.items()},
        **{f"policy general / {peer}": ours / costs[peer] for peer in peers},
        "policy general: prompts a second, all cores": _TOGETHER
        / seconds(lambda: guard.screen_prompts(prompts)),
        "safelight screen, cold: s": median(_cold() for _ in range(5)),
    }


def _readers(guard: safelight.Guard) -> dict[str, Reader]:
    from better_profanity import profanity
    from profanity_check import predict_prob

    profanity.load_censor_words()
    return {
        "word list": Lexicon().find,
        "child-safety": ChildSafety().find,
        "classifier": PromptClassifier().find,
        "policy general": guard.screen_prompts,
        "better-profanity": lambda prompts: [profanity.contains_profanity(prompt) for prompt in prompts],
        "alt-profanity-check": predict_prob,
        "transformers, fp32": _transformers(),
    }


def _transformers() -> Reader:
    """As most people would do it: MiniLM with a head, in PyTorch; its weights do not matter for its speed."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(PACKAGED / "tokenizer.json"), pad_token="[PAD]")
    size = BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, num_labels=13
    )
    model = BertForSequenceClassification(size).eval()
    torch.set_num_threads(1)

    @torch.inference_mode()
    def read(prompts: Sequence[str]) -> object:
        return model(
            **tokenizer(list(prompts), return_tensors="pt", padding=True, truncation=True, max_length=128)
        )

    return read


def _milliseconds(read: Reader, prompts: Sequence[str]) -> float:
    read(prompts[:3])
    return 1000 * median(seconds(lambda prompt=prompt: read([prompt])) for prompt in prompts)  # type: ignore[misc]


def _cold() -> float:
    order = [sys.executable, "-m", "safelight", "screen", "--json", "a dog in the park"]
    return seconds(lambda: subprocess.run(order, check=True, capture_output=True))
