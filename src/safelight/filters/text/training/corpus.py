"""Reads labelled prompts of public sources from Parquet files, for training and evaluation.

A family is a source, or several sources of one origin. Its texts share a style that gives the label away, so
the quality of a classifier can be measured only on families that it was not trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from safelight.errors import MissingExtraError, RequestError
from safelight.filters.text.training.grammar import Text

_COLUMNS = ("prompt", "label", "categories", "source")
_FAMILIES: Mapping[str, str] = {
    "coprov2_train": "coprov2",
    "coprov2_test": "coprov2",
    "six_cd": "six_cd",
    "six_cd_dual": "six_cd",
    "six_cd_benign": "six_cd",
    "diffusiondb_harm_jdb": "diffusiondb",
    "diffusiondb_benign_jdb": "diffusiondb",
}
# The sources' names of categories, in lower case. Names without a counterpart are harm of no known category.
_CATEGORIES: Mapping[str, tuple[str, ...]] = {
    "hate": ("hate",),
    "hate content": ("hate",),
    "harrasment": ("harassment",),
    "harassment": ("harassment",),
    "violence": ("violence",),
    "physical harm and violence": ("violence",),
    "shocking": ("violence.graphic",),
    "self-harm": ("self_harm",),
    "illegal activity": ("illegal",),
    "sexual": ("sexual.explicit",),
    "nudity": ("sexual.nudity",),
    "nudity and sexual content": ("sexual.explicit", "sexual.nudity"),
    "hate/threatening": ("hate", "harassment"),
    "violence/graphic": ("violence.graphic",),
}


def read_corpus(path: Path) -> list[Text]:
    """Return the distinct prompts of a file or of a folder's files, with their categories and family.

    An unsafe prompt of no known category has only the category "". A prompt that is listed both as safe and
    as unsafe is unsafe. Raises ``RequestError`` if the file does not exist or lacks one of the columns
    prompt, label ("safe" or "unsafe"), categories and source.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise MissingExtraError("reading labelled prompts", "data") from error
    try:
        tables = [parquet.read_table(file, columns=list(_COLUMNS)) for file in corpus_files(path)]
        rows = [row for table in tables for row in table.to_pylist()]
    except (ArrowException, OSError, KeyError) as error:
        raise RequestError(f"{path} cannot be read as labelled prompts: {error}.") from error
    if rows and rows[0].keys() != set(_COLUMNS):
        raise RequestError(f"{path} does not have the columns {', '.join(_COLUMNS)}.")
    if wrong := {row["label"] for row in rows} - {"safe", "unsafe"}:
        raise RequestError(f'{path} has the label "{wrong.pop()}"; labels are safe and unsafe.')
    texts: dict[str, Text] = {}
    for text in map(_text, rows):
        known = texts.setdefault(text.prompt, text)
        texts[text.prompt] = replace(known, categories=known.categories | text.categories)
    return list(texts.values())


def corpus_files(path: Path) -> list[Path]:
    """Return the Parquet files of a corpus, which is one file or a folder of them.

    Raises ``RequestError`` for a folder without any.
    """
    if not path.is_dir():
        return [path]
    if files := sorted(path.glob("*.parquet")):
        return files
    raise RequestError(f"{path} has no .parquet file in it; give a file or folder of labelled prompts.")


def _text(row: Mapping[str, object]) -> Text:
    names = row["categories"] if isinstance(row["categories"], list) else []
    harms = {harm for name in names for harm in _CATEGORIES.get(str(name).casefold(), ())}
    unsafe = row["label"] == "unsafe"
    source = str(row["source"])
    return Text(
        str(row["prompt"]),
        frozenset(harms or {""}) if unsafe else frozenset(),
        _FAMILIES.get(source, source),
    )
