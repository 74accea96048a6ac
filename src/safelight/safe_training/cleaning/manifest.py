"""The manifests ``kept.parquet`` and ``rejected.parquet``: every sample is listed in one of the two."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.safe_training.cleaning.decision import Decision, Rejection
from safelight.safe_training.cleaning.findings import Screened
from safelight.safe_training.cleaning.row_file import RowFile
from safelight.safe_training.cleaning.tally import Tally

if TYPE_CHECKING:
    from pyarrow import Schema

KEPT, REJECTED = "kept.parquet", "rejected.parquet"


def write_manifests(folder: Path, decided: Iterable[tuple[Screened, Decision]], policy: str) -> Tally:
    """Write both manifests, each atomically, and return the counts."""
    tally = Tally(policy)
    with ExitStack() as stack:
        kept = stack.enter_context(RowFile.writing(folder / KEPT, _kept()))
        rejected = stack.enter_context(RowFile.writing(folder / REJECTED, _rejected()))
        for screened, decision in decided:
            tally.add(screened, decision)
            if decision.rejection is None:
                kept.add({"id": screened.id, "key": screened.key})
            else:
                rejected.add(_row(screened, decision.rejection, policy))
    return tally


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
