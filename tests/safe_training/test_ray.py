"""Cleaning on Ray: a cluster on this machine, with real actors."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import safelight
from safelight.errors import RequestError
from safelight.guard.guard import Guard
from safelight.policy import Policy
from safelight.safe_training.cleaning import Cleaning, shards_of
from safelight.safe_training.cleaning.engines.local import run_local
from safelight.safe_training.cleaning.engines.ray import run_ray
from safelight.safe_training.cleaning.worker import Task
from screens import BLACK, RED, colours, encoded

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.timeout(900)  # a cluster starts slowly where other programs fill the cores

# For the processes that Ray starts: this module, and the package that is tested.
_PATHS = os.pathsep.join([*map(str, Path(__file__).parents[:3]), str(Path(safelight.__file__).parents[1])])


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this module importable by the processes that Ray starts."""
    monkeypatch.setenv("PYTHONPATH", _PATHS)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster for several tests, as starting one is slow; other tests start and stop their own."""
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": _PATHS}},
    )
    yield
    ray.shutdown()


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """90 images in shards of 4; one crashes its decoder."""
    monkeypatch.setattr("safelight.safe_training.cleaning.sources.folder._MOST", 4)
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(90):
        (folder / f"{i:02}.png").write_bytes(encoded(RED if i % 10 == 0 else (0, 200, 0), 8 + i))
    (folder / "33.png").write_bytes(encoded(BLACK, 100))
    return folder


def _clean(images: Path, policy: Path, out: Path, engine: Any) -> dict[str, Any]:
    cleaning = Cleaning(out)
    cleaning.screen(partial(shards_of, str(images)), partial(colours, policy), {}, engine)
    return cleaning.sort(Policy.load(policy), out).summary()


def test_it_gives_the_same_as_this_machine_though_a_node_dies(
    images: Path, policy: Path, tmp_path: Path
) -> None:
    """Kill an actor and its worker as soon as there are findings."""
    killed = tmp_path / "killed"

    def with_a_loss(task: Task, shards: Any, progress: Any) -> None:
        fatal = partial(_kills_its_actor, killed, task.folder, policy)
        run_ray(replace(task, screens=fatal), shards, 2, progress)

    here = _clean(
        images, policy, tmp_path / "here", lambda task, shards, progress: run_local(task, shards, 2, progress)
    )
    there = _clean(images, policy, tmp_path / "there", with_a_loss)
    assert killed.exists()
    assert here == there
    assert (here["harmful"], here["unreadable"]) == (9, 1)
    for name in ("kept.parquet", "rejected.parquet"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def _kills_its_actor(killed: Path, findings: Path, policy: Path) -> Guard:
    """In the first worker, kill the actor that started it once the other one has findings."""
    try:
        killed.touch(exist_ok=False)
    except FileExistsError:
        return colours(policy)
    deadline = time.monotonic() + 600
    while not list(findings.iterdir()):
        if time.monotonic() > deadline:
            raise RequestError("the other worker has no findings.")
        time.sleep(0.05)
    os.kill(os.getppid(), signal.SIGKILL)
    return colours(policy)


def test_a_missing_cluster_is_an_error(images: Path, tmp_path: Path) -> None:
    shards = dict(enumerate(shards_of(str(images))))
    with pytest.raises(RequestError, match="no Ray cluster at"):
        run_ray(Task(_fails, tmp_path), shards, 1, lambda *_: None, "127.0.0.1:1")


@pytest.mark.usefixtures("cluster")
def test_no_worker_hoards_shards_while_another_waits(images: Path, policy: Path, tmp_path: Path) -> None:
    shards = dict(list(enumerate(shards_of(str(images))))[:2])
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    run_ray(Task(partial(_met, meeting, policy), tmp_path), shards, 2, lambda *_: None)
    assert len(list(meeting.iterdir())) == 2


def _met(meeting: Path, policy: Path) -> Guard:
    """Each worker starts only when the other one does."""
    (meeting / str(os.getpid())).touch()
    deadline = time.monotonic() + 100
    while len(list(meeting.iterdir())) < 2:
        if time.monotonic() > deadline:
            raise RequestError("the other worker has nothing to do.")
        time.sleep(0.05)
    return colours(policy)


@pytest.mark.usefixtures("cluster")
def test_errors_of_workers_are_reported(images: Path, tmp_path: Path) -> None:
    shards = dict(enumerate(shards_of(str(images))))
    with pytest.raises(RequestError, match="there is no lexicn"):
        run_ray(Task(_fails, tmp_path), shards, 1, lambda *_: None)


def _fails() -> Any:
    raise RequestError("there is no lexicn.")
