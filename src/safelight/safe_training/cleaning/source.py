"""Detecting the format of a data set, and listing its shards."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from enum import StrEnum

from safelight.errors import RequestError
from safelight.safe_training.cleaning.sample import Shard
from safelight.safe_training.cleaning.sources.folder import folder_shards
from safelight.safe_training.cleaning.sources.table import arrow_shards, parquet_shards
from safelight.safe_training.cleaning.sources.web_dataset import TarShard
from safelight.safe_training.cleaning.storage import Storage, text


class Form(StrEnum):
    """Formats of training data."""

    FOLDER = "folder"
    WEBDATASET = "webdataset"
    PARQUET = "parquet"
    ARROW = "arrow"


# Suffixes of files that are shards; the first format that matches wins.
_SUFFIXES = {
    Form.WEBDATASET: (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"),
    Form.ARROW: (".arrow",),
    Form.PARQUET: (".parquet",),
}


def form_of(files: Sequence[str]) -> Form:
    """Return the format by the files' names; tar files win, as their tools write tables beside them."""
    found = (form for form, suffixes in _SUFFIXES.items() if any(path.endswith(suffixes) for path in files))
    return next(found, Form.FOLDER)


def shards_of(
    url: str, form: Form | None = None, image: str | None = None, caption: str | None = None
) -> Sequence[Shard]:
    """Return all shards of the data set in a folder, in a file or below a URL, in order.

    ``image`` and ``caption`` are the columns of tables; by default they are detected by their names. Raises
    ``RequestError`` if there is no data, or no such column.
    """
    storage, files = Storage.of(url)
    form = form or form_of(files)
    if form is Form.FOLDER:
        return folder_shards(storage, files)
    mine = [path for path in files if path.endswith(_SUFFIXES[form]) and not _cached(path)]
    if not mine:
        raise RequestError(f"{url} has no {' or '.join(_SUFFIXES[form])} files; give another --format.")
    if form is Form.WEBDATASET:
        return [TarShard(text(path), storage.url, path) for path in mine]
    shards = arrow_shards if form is Form.ARROW else parquet_shards
    return shards(storage, mine, image, caption)


def _cached(path: str) -> bool:
    """Return whether the file is a cache of the datasets library, which has no samples of its own."""
    return path.endswith(".arrow") and posixpath.basename(path).startswith("cache-")
