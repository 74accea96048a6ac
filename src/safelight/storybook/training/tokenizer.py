"""The tokenizer: CLIP's byte-level BPE, with merges learnt from the world's captions.

The vocabulary has all 256 bytes, inside a word and at its end, so any string can be tokenised and altered
spellings are realistic attacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

from safelight.storybook.vocabulary import PLACES, STYLES, THINGS, plural

MAX_TOKENS = 40
_SIZE = 2048
_START, _END, _WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
_WORDS = Regex(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")


def train_tokenizer(captions: Iterable[str]) -> CLIPTokenizer:
    """Learn merges from ``captions`` and all words of the vocabulary."""
    learner = Tokenizer(BPE(end_of_word_suffix=_WORD_END))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_WORDS, behavior="removed", invert=True), ByteLevel(add_prefix_space=False)]
    )
    letters = sorted(ByteLevel.alphabet())
    trainer = BpeTrainer(
        vocab_size=_SIZE - len(letters) - 2,
        initial_alphabet=letters,
        end_of_word_suffix=_WORD_END,
        show_progress=False,
    )
    learner.train_from_iterator(_with_words(captions), trainer)
    merges = _merges(learner)
    tokens = [*letters, *(letter + _WORD_END for letter in letters), *("".join(pair) for pair in merges)]
    vocabulary = {token: i for i, token in enumerate([*dict.fromkeys(tokens), _START, _END])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)


def _with_words(captions: Iterable[str]) -> Iterator[str]:
    yield from captions
    entries = (*THINGS.values(), *PLACES.values(), *STYLES.values())
    words = [word for entry in entries for word in entry.words]
    for _ in range(50):
        yield from words
        yield from map(plural, words)


def _merges(learner: Tokenizer) -> list[tuple[str, str]]:
    import json

    return [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]
