"""Prompt classifier: a small language model that says which harm a prompt asks for, and in which words.

It reads what is seen in a prompt (folded, and where that differs restored as well) in windows that overlap;
the window in which a category is likeliest counts. What a word list finds is further evidence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from safelight.concurrency.thread_count import cores
from safelight.errors import FilterError, no_such
from safelight.filters.text.calibration import Calibration
from safelight.filters.text.decoding import sources
from safelight.filters.text.folding import Folded
from safelight.filters.text.lexicon import Lexicon
from safelight.filters.text.restoration import Restored, Restorer, rare_words
from safelight.models.files import HASHES, check_hashes, read_json
from safelight.registry import register
from safelight.storage.packaged_files import read_bytes
from safelight.types import LEAST_SCORE, Finding, Span

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

_PACKAGED = Path(__file__).with_name("classifiers")
# Tokens beside the two that begin and end a text: most prompts fit, and cost grows with the square.
_WINDOW, _STRIDE = 126, 96
# Of all readings together; the time that they take is what limits it.
_MOST_WINDOWS = 24
_PROMPTS_AT_ONCE = 1000
# Words as short are found in everything: in "3 x 3", and in "f/1.4".
_SHORT = 3
_APOSTROPHES = re.compile("['*]")
# How many times the odds of harm count in a prompt whose words were hidden: few people misspell by accident
# in ways that restoring undoes and that hide harm, and what it fails to restore is missing from the score.
# Names that are taken for slips are innocent: restoring them changes the odds by less than a half.
_HIDDEN, _WORSE = 5.0, 1.5


@dataclass(frozen=True, slots=True)
class _Window:
    """Token ids of a part of a reading, and where each token is; ``hidden``: the reading restored words."""

    item: int
    reading: Folded | Restored
    hidden: bool
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Read:
    """Of one window the score of every category (C,), and what each token adds to its logit (T, C)."""

    window: _Window
    scores: NDArray[np.float32]
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Judged:
    """A prompt's windows, and the calibrated score of every category in each of them, (windows, C)."""

    reads: list[_Read]
    scores: NDArray[np.float32]


@register("prompt_filter", "classifier")
class PromptClassifier:
    """Reports every category of harm that a prompt may ask for, with its most telling words.

    The likeliest category has the probability that the prompt is harmful at all, every other one that it is
    harmful and of this kind. ``model`` is a packaged classifier or a folder that ``safelight train
    prompt-classifier`` wrote. Raises ``FilterError`` or ``ModelError`` if it is not there or was altered. A
    prompt without anything to read is blocked; so is one of more than some 2,300 tokens. Words in scripts
    that its tokenizer does not know say nothing to it.
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
        self._threads = ThreadPoolExecutor(cores())  # which starts none before there is work

    def find(self, prompts: Sequence[str]) -> list[list[Finding] | FilterError]:
        return [
            judged if isinstance(judged, FilterError) else self._findings(judged)
            for judged in self._judge(prompts)
        ]

    def probabilities(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """P(harm) of each, (N,); 1 for one that cannot be read."""
        import numpy as np

        judged = self._judge(prompts)
        return np.array([1.0 if isinstance(j, FilterError) else j.scores.max() for j in judged], np.float32)

    def _judge(self, prompts: Sequence[str]) -> Iterator[_Judged | FilterError]:
        for start in range(0, len(prompts), _PROMPTS_AT_ONCE):
            yield from self._judge_some(prompts[start : start + _PROMPTS_AT_ONCE])

    def _judge_some(self, prompts: Sequence[str]) -> Iterator[_Judged | FilterError]:
        windows: list[_Window] = []
        reads: list[list[_Read] | FilterError] = []
        for item, prompt in enumerate(prompts):
            mine = self._readable(item, prompt)
            windows += mine if isinstance(mine, list) else ()
            reads.append([] if isinstance(mine, list) else mine)
        running = self._run_all(windows)
        readable = [prompt for prompt, read in zip(prompts, reads, strict=True) if isinstance(read, list)]
        listed = iter(self._worst_words(readable))  # while the network is at work
        for read in running:
            answer = reads[read.window.item]
            assert isinstance(answer, list)
            answer.append(read)
        for answer in reads:
            if isinstance(answer, FilterError):
                yield answer
            else:
                yield _Judged(answer, self._calibration.of(_scores(answer), next(listed)))

    def _worst_words(self, prompts: Sequence[str]) -> Sequence[float]:
        return self._lexicon.worst(prompts) if self._lexicon else [0.0] * len(prompts)

    def _readable(self, item: int, prompt: str) -> list[_Window] | FilterError:
        """The prompt's windows, or why it is not read."""
        try:
            windows = list(islice(self._windows(item, prompt), _MOST_WINDOWS + 1))
        except FilterError as error:
            return error
        if len(windows) > _MOST_WINDOWS:
            return FilterError("the prompt has too many tokens as it is read; shorten it.")
        return windows or FilterError("there is nothing in it to read")

    def _windows(self, item: int, prompt: str) -> Iterator[_Window]:
        for reading in self._readings(prompt):
            hidden = _hides_words(reading)
            encoding = self._tokenizer.encode(reading.text, add_special_tokens=False)
            ids, offsets = encoding.ids, encoding.offsets
            for start in range(0, max(len(ids) - _WINDOW + _STRIDE, min(len(ids), 1)), _STRIDE):
                part = slice(start, start + _WINDOW)
                # What restoring left as it was is in the windows of the folded prompt already.
                if _is_new(reading, offsets[part]):
                    tokens = (self._first, *ids[part], self._last)
                    yield _Window(item, reading, hidden, tokens, tuple(offsets[part]))

    def _readings(self, prompt: str) -> Iterator[Folded | Restored]:
        for source in sources(prompt):
            folded = Folded(source)
            yield folded
            if (restored := self._restorer.restore(folded)).edits:
                yield restored

    def _run_all(self, windows: Sequence[_Window]) -> Iterator[_Read]:
        """One at a time, on as many threads as there are cores.

        Int8 networks scale their activations by the largest in the batch: a text must not be judged by its
        neighbours. Nor would a batch be faster on a CPU.
        """
        run = map if len(windows) < 2 else self._threads.map
        return run(self._run, windows)

    def _run(self, window: _Window) -> _Read:
        import numpy as np

        ids = np.array([window.ids], np.int64)
        (scores,), (weights,) = self._session.run(
            ["scores", "weights"], {"ids": ids, "mask": np.ones_like(ids)}
        )
        return _Read(window, scores, weights)

    def _findings(self, judged: _Judged) -> list[Finding]:
        findings = []
        for number, best in enumerate(judged.scores.argmax(0)):
            score = float(judged.scores[best, number])
            # Not "at least": whatever is no number must go on, and fail.
            if not score < LEAST_SCORE:
                read = judged.reads[best]
                span = _telling(read.window, read.weights[:, number])
                findings.append(Finding(self._categories[number], score, self.name, span))
        return findings


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in ``folder``, without padding or truncation, for texts that were folded.

    WordPiece knows nothing of a word with one letter that it does not know, or with a hundred letters. So
    letters of other scripts part words, and so do ninety letters: nobody hides a word by adding to it.
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


def _is_new(reading: Folded | Restored, offsets: Sequence[tuple[int, int]]) -> bool:
    return isinstance(reading, Folded) or reading.is_edited(offsets[0][0], offsets[-1][1])


def _hides_words(reading: Folded | Restored) -> bool:
    """Whether some word was restored by more than leaving out an apostrophe."""
    if isinstance(reading, Folded):
        return False
    changed = ((reading.folded.text[edit.start : edit.end], edit.text) for edit in reading.edits)
    return any(
        max(map(len, text.split())) > _SHORT and _APOSTROPHES.sub("", was) != text for was, text in changed
    )


def load_restorer(tokenizer: Tokenizer) -> Restorer:
    """One that knows most English words, and those that the network does."""
    vocabulary = (word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha())
    return Restorer(rare=[*rare_words(), *(word for word in vocabulary if len(word) > _SHORT)])


def _scores(reads: Sequence[_Read]) -> NDArray[np.float32]:
    """(windows, categories); the highest of several is no number if one of them is not.

    Where words were hidden, and restoring them told of more harm, the odds count several times.
    """
    import numpy as np

    scores = np.stack([read.scores for read in reads])
    hidden = np.array([read.window.hidden for read in reads])
    if hidden.any() and _odds(scores[hidden].max()) > _WORSE * _odds(scores[~hidden].max()):
        odds = _HIDDEN * scores[hidden]
        scores[hidden] = odds / (1 - scores[hidden] + odds)
    return scores


def _odds(probability: float) -> float:
    return probability / max(1 - probability, 1e-6)


def _telling(window: _Window, weights: NDArray[np.float32]) -> Span:
    """The run of words that adds most to the score, as far as it adds more than words on average do."""
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
    """First and last of the adjacent weights with the highest sum, at least one (Kadane's algorithm)."""
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
        raise FilterError(no_such("prompt classifier", str(model), packaged))
    return folder
