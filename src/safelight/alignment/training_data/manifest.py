"""``kept.parquet`` and ``rejected.parquet``: every sample is in one of the two; the data stays as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.alignment.training_data.decision import Rejection
from safelight.alignment.training_data.findings import Screened
from safelight.alignment.training_data.row_file import RowFile

if TYPE_CHECKING:
    from pyarrow import Schema

KEPT, REJECTED = "kept.parquet", "rejected.parquet"


def write_manifests(
    folder: Path, decided: Iterable[tuple[Screened, Rejection | None]], policy: str
) -> dict[str, Any]:
    """Both, each at once or not at all; gives how many samples there are of each kind."""
    counts: Counter[str] = Counter()
    categories: Counter[str] = Counter()
    with ExitStack() as stack:
        kept = stack.enter_context(RowFile(folder / KEPT, _kept()))
        rejected = stack.enter_context(RowFile(folder / REJECTED, _rejected()))
        for screened, rejection in decided:
            counts[rejection.reason if rejection else "kept"] += 1
            if rejection is None:
                kept.add({"id": screened.id, "key": screened.key})
            else:
                categories[rejection.category or rejection.reason] += 1
                rejected.add(_row(screened, rejection, policy))
    return {
        "samples": counts.total(),
        **dict(sorted(counts.items())),
        "rejected": dict(categories.most_common()),
    }


def _row(screened: Screened, rejection: Rejection, policy: str) -> dict[str, Any]:
    return {
        "id": screened.id,
        "key": screened.key,
        "category": rejection.category,
        "score": rejection.score,
        "filter": rejection.filter,
        "policy": policy,
        "reason": rejection.reason,
        "detail": rejection.detail,
    }


def _kept() -> Schema:
    import pyarrow as pa

    return pa.schema([("id", pa.string()), ("key", pa.string())])


def _rejected() -> Schema:
    import pyarrow as pa

    names = ("id", "key", "category", "score", "filter", "policy", "reason", "detail")
    return pa.schema([(name, pa.float64() if name == "score" else pa.string()) for name in names])
