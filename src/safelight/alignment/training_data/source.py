"""Which form a data set has, and its shards."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from enum import StrEnum

from safelight.alignment.training_data.sample import Shard
from safelight.alignment.training_data.sources.folder import folder_shards
from safelight.alignment.training_data.sources.table import arrow_shards, parquet_shards
from safelight.alignment.training_data.sources.web_dataset import TarShard
from safelight.alignment.training_data.storage import Storage, text

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# A saved data set's own, which are no samples.
_CACHES = "cache-"


class Form(StrEnum):
    """In which training data comes."""

    FOLDER = "folder"
    WEBDATASET = "webdataset"
    PARQUET = "parquet"
    ARROW = "arrow"


def form_of(files: Sequence[str], url: str) -> Form:
    """By the names of its files: what makes tar files writes tables about them as well."""
    names = [path or posixpath.basename(url) for path in files]
    if any(name.endswith(_TAR) for name in names):
        return Form.WEBDATASET
    if any(name.endswith(".arrow") for name in names):
        return Form.ARROW
    if any(name.endswith(".parquet") for name in names):
        return Form.PARQUET
    return Form.FOLDER


def shards_of(
    url: str, form: Form | None = None, picture: str | None = None, caption: str | None = None
) -> Sequence[Shard]:
    """All shards of the data set in a folder, a file or below a URL, in order.

    Tables have their pictures and captions in the columns ``picture`` and ``caption``, else in the likeliest.
    Raises ``RequestError`` if there is nothing, or no such column.
    """
    storage = Storage(url)
    files = storage.files()
    form = form or form_of(files, url)
    if form is Form.FOLDER:
        return folder_shards(storage, files)
    if form is Form.WEBDATASET:
        mine = [path for path in files if (path or url).endswith(_TAR)]
        return [TarShard(text(path) or posixpath.basename(url), url, path) for path in mine]
    if form is Form.ARROW:
        own = [path for path in files if path.endswith(".arrow") or not path]
        return arrow_shards(
            storage, [p for p in own if not posixpath.basename(p).startswith(_CACHES)], picture, caption
        )
    return parquet_shards(storage, [p for p in files if (p or url).endswith(".parquet")], picture, caption)
