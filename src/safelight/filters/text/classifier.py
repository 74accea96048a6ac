"""Prompt classifier: a small language model that detects which harm a prompt asks for, and in which words.

It reads the folded prompt and, where that differs, also the restored one, in overlapping windows. The score
of a category is its highest score in any window. Matches of a word list are further evidence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from safelight.concurrency.thread_count import thread_count
from safelight.errors import FilterError, unknown_name
from safelight.filters.text.calibration import Calibration
from safelight.filters.text.decoding import sources
from safelight.filters.text.folding import Folded
from safelight.filters.text.lexicon import Lexicon
from safelight.filters.text.restoration import Restored, Restorer, rare_words
from safelight.models.files import HASHES, check_hashes, read_json
from safelight.registry import register
from safelight.storage.packaged_files import read_bytes
from safelight.types import MIN_SCORE, Finding, Span

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

_PACKAGED = Path(__file__).with_name("classifiers")
# In tokens, without the two that begin and end a text. Most prompts fit into one window; the cost of a window
# grows with the square of its length.
_WINDOW, _STRIDE = 126, 96
# Over all readings of a prompt; limits the time that one prompt can take.
_MAX_WINDOWS = 24
_BATCH_SIZE = 1000
# Words of up to this length are restored by accident too often: from "3 x 3" or "f/1.4".
_SHORT_WORD = 3
_APOSTROPHES = re.compile("['*]")
# The factor on the odds of harm for a prompt with obfuscated words. Few people misspell harmful words by
# accident in ways that restoration undoes, and words that it fails to restore are missing from the score.
# The factor applies only if restoration raises the odds by more than half: mistaking a name for a misspelt
# word changes them less.
_OBFUSCATION_FACTOR, _MIN_ODDS_RATIO = 5.0, 1.5


@dataclass(frozen=True, slots=True)
class _Window:
    """A part of a reading: its token ids and their offsets in the text of the reading.

    ``hidden`` tells whether the reading restored words.
    """

    reading: Folded | Restored
    hidden: bool
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _WindowScores:
    """The score of every category in one window (C,), and each token's contribution to its logit (T, C)."""

    window: _Window
    scores: NDArray[np.float32]
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _ScoredPrompt:
    """The windows of one prompt, and the calibrated scores of all categories in them, (windows, C)."""

    reads: list[_WindowScores]
    scores: NDArray[np.float32]


@register("prompt_filter", "classifier")
class PromptClassifier:
    """Reports every category of harm that a prompt may ask for, with the words that contribute most to it.

    The score of the likeliest category is the probability that the prompt is harmful; the score of every
    other category is the probability that the prompt is harmful and belongs to that category. ``model`` is a
    packaged classifier or a folder written by ``safelight train prompt-classifier``. Raises ``FilterError``
    or ``ModelError`` if it does not exist or was altered. Prompts without any text and prompts of more than
    about 2,300 tokens are blocked. Words in scripts that the tokenizer does not know do not affect the score.
    """

    packaged: ClassVar[frozenset[str]] = frozenset(
        path.parent.name for path in _PACKAGED.glob("*/classifier.json")
    )

    def __init__(self, model: str | Path = "general", name: str = "classifier") -> None:
        from safelight.models.onnx import open_session

        folder = _folder(model)
        check_hashes(folder, read_json(folder / HASHES))
        about = read_json(folder / "classifier.json")
        self.name = name
        self.version = f"{folder.name} {about['version']}"
        self._categories: list[str] = about["categories"]
        self.labels = frozenset(self._categories)
        self._tokenizer = load_tokenizer(folder)
        self._first, self._last = self._tokenizer.encode("").ids
        self._session = open_session(folder / "model.onnx")
        self._restorer = load_restorer(self._tokenizer)
        self._lexicon = Lexicon(about["words"]) if "words" in about else None
        if self._lexicon:
            self.version += f", {self._lexicon.version}"
        self._calibration = Calibration(**about.get("calibration", {}))
        self._threads = ThreadPoolExecutor(thread_count())  # starts its threads on first use

    def find(self, prompts: Sequence[str]) -> list[list[Finding] | FilterError]:
        return [
            scored if isinstance(scored, FilterError) else self._findings(scored)
            for scored in self._score(prompts)
        ]

    def probabilities(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return P(harm) of each prompt, (N,); 1 for a prompt that cannot be read."""
        import numpy as np

        scored = self._score(prompts)
        return np.array([1.0 if isinstance(j, FilterError) else j.scores.max() for j in scored], np.float32)

    def _score(self, prompts: Sequence[str]) -> Iterator[_ScoredPrompt | FilterError]:
        for start in range(0, len(prompts), _BATCH_SIZE):
            yield from self._score_batch(prompts[start : start + _BATCH_SIZE])

    def _score_batch(self, prompts: Sequence[str]) -> Iterator[_ScoredPrompt | FilterError]:
        """Score prompts while the threads already run the network on the windows of the later ones."""
        running: list[Iterator[_WindowScores] | FilterError] = []
        readable: list[str] = []
        for prompt in prompts:
            windows = self._windows_or_error(prompt)
            if isinstance(windows, FilterError):
                running.append(windows)
                continue
            running.append(self._run_all(windows, several=len(prompts) > 1 or len(windows) > 1))
            readable.append(prompt)
        listed = iter(self._lexicon_scores(readable))
        for read in running:
            if isinstance(read, FilterError):
                yield read
            else:
                reads = list(read)
                yield _ScoredPrompt(reads, self._calibration.calibrate(_scores(reads), next(listed)))

    def _lexicon_scores(self, prompts: Sequence[str]) -> Sequence[float]:
        return self._lexicon.harm_scores(prompts) if self._lexicon else [0.0] * len(prompts)

    def _windows_or_error(self, prompt: str) -> list[_Window] | FilterError:
        """Return the windows of the prompt, or the reason why it cannot be read."""
        try:
            windows = list(islice(self._windows(prompt), _MAX_WINDOWS + 1))
        except FilterError as error:
            return error
        if len(windows) > _MAX_WINDOWS:
            return FilterError("the prompt has too many tokens after normalisation; shorten it.")
        return windows or FilterError("the prompt contains no text")

    def _windows(self, prompt: str) -> Iterator[_Window]:
        for reading in self._readings(prompt):
            hidden = _is_obfuscated(reading)
            encoding = self._tokenizer.encode(reading.text, add_special_tokens=False)
            ids, offsets = encoding.ids, encoding.offsets
            for start in range(0, max(len(ids) - _WINDOW + _STRIDE, min(len(ids), 1)), _STRIDE):
                part = slice(start, start + _WINDOW)
                # Parts that restoration left unchanged are already in the windows of the folded prompt.
                if _is_affected(reading, offsets[part]):
                    tokens = (self._first, *ids[part], self._last)
                    yield _Window(reading, hidden, tokens, tuple(offsets[part]))

    def _readings(self, prompt: str) -> Iterator[Folded | Restored]:
        for source in sources(prompt):
            folded = Folded(source)
            yield folded
            if (restored := self._restorer.restore(folded)).edits:
                yield restored

    def _run_all(self, windows: Sequence[_Window], several: bool) -> Iterator[_WindowScores]:
        """Run the network on one window at a time: on one thread per CPU core if there are ``several``.

        Windows are not batched: the int8 network scales its activations by the largest one in the batch, so
        scores would depend on the other windows. A batch would not be faster on a CPU either.
        """
        return (self._threads.map if several else map)(self._run, windows)

    def _run(self, window: _Window) -> _WindowScores:
        import numpy as np

        ids = np.array([window.ids], np.int64)
        (scores,), (weights,) = self._session.run(
            ["scores", "weights"], {"ids": ids, "mask": np.ones_like(ids)}
        )
        return _WindowScores(window, scores, weights)

    def _findings(self, scored: _ScoredPrompt) -> list[Finding]:
        findings = []
        for number, best in enumerate(scored.scores.argmax(0)):
            score = float(scored.scores[best, number])
            # Negated so that a NaN score is not dropped: ``Finding`` rejects it, and the prompt is blocked.
            if not score < MIN_SCORE:
                read = scored.reads[best]
                span = _top_words(read.window, read.weights[:, number])
                findings.append(Finding(self._categories[number], score, self.name, span))
        return findings


def load_tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer in ``folder``, without padding or truncation, for folded texts.

    WordPiece maps a whole word to the unknown token if it contains one unknown letter or more than a hundred
    letters. Words are therefore split at non-ASCII letters and after every ninety letters, so that a word
    cannot be hidden by appending letters to it.
    """
    from tokenizers import Regex, Tokenizer
    from tokenizers.pre_tokenizers import Sequence as Both
    from tokenizers.pre_tokenizers import Split

    tokenizer = Tokenizer.from_buffer(read_bytes(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    apart = [Split(Regex(pattern), "isolated") for pattern in (r"[^\x00-\x7f]+", r"[a-z]{90}")]
    tokenizer.pre_tokenizer = Both([*apart, tokenizer.pre_tokenizer])
    return tokenizer


def _is_affected(reading: Folded | Restored, offsets: Sequence[tuple[int, int]]) -> bool:
    return isinstance(reading, Folded) or reading.is_edited(offsets[0][0], offsets[-1][1])


def _is_obfuscated(reading: Folded | Restored) -> bool:
    """Return whether restoration changed some longer word by more than removing an apostrophe."""
    if isinstance(reading, Folded):
        return False
    changed = ((reading.folded.text[edit.start : edit.end], edit.text) for edit in reading.edits)
    return any(
        max(map(len, text.split())) > _SHORT_WORD and _APOSTROPHES.sub("", was) != text
        for was, text in changed
    )


def load_restorer(tokenizer: Tokenizer) -> Restorer:
    """Return a restorer that knows most English words and the words in the tokenizer's vocabulary."""
    vocabulary = (word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha())
    return Restorer(rare=[*rare_words(), *(word for word in vocabulary if len(word) > _SHORT_WORD)])


def _scores(reads: Sequence[_WindowScores]) -> NDArray[np.float32]:
    """Return the uncalibrated scores (windows, categories). NaN propagates through their maximum.

    If words were obfuscated and restoring them raised the odds of harm, those odds are multiplied.
    """
    import numpy as np

    scores = np.stack([read.scores for read in reads])
    hidden = np.array([read.window.hidden for read in reads])
    if hidden.any() and _odds(scores[hidden].max()) > _MIN_ODDS_RATIO * _odds(scores[~hidden].max()):
        odds = _OBFUSCATION_FACTOR * scores[hidden]
        scores[hidden] = odds / (1 - scores[hidden] + odds)
    return scores


def _odds(probability: float) -> float:
    return probability / max(1 - probability, 1e-6)


def _top_words(window: _Window, weights: NDArray[np.float32]) -> Span:
    """Return the consecutive words whose contribution to the score exceeds the average the most."""
    words: list[tuple[int, int, float]] = []
    text = window.reading.text
    for (start, end), weight in zip(window.offsets, weights[1:].tolist(), strict=False):
        if words and words[-1][1] == start and text[start - 1].isalnum() and text[start].isalnum():
            words[-1] = (words[-1][0], end, words[-1][2] + weight)
        else:
            words.append((start, end, weight))
    mean = sum(weight for *_, weight in words) / len(words)
    first, last = _heaviest_run([weight - mean for *_, weight in words])
    return window.reading.span(words[first][0], words[last][1])


def _heaviest_run(weights: Sequence[float]) -> tuple[int, int]:
    """Return the first and last index of the non-empty run of weights with the highest sum (Kadane)."""
    best, sum_, start = (weights[0], 0, 0), 0.0, 0
    for end, weight in enumerate(weights):
        if sum_ <= 0:
            sum_, start = 0.0, end
        sum_ += weight
        best = max(best, (sum_, start, end), key=lambda run: run[0])
    return best[1], best[2]


def _folder(model: str | Path) -> Path:
    packaged = {path.parent.name: path.parent for path in _PACKAGED.glob("*/classifier.json")}
    folder = packaged.get(str(model), Path(model))
    if not (folder / HASHES).is_file():
        raise FilterError(unknown_name("prompt classifier", str(model), packaged))
    return folder
