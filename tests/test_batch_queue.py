from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import torch
from PIL import Image

from safelight.concurrency.deadline import Deadline
from safelight.guard.batch_queue import BatchQueue, Job
from safelight.guard.call_arguments import CallArguments
from safelight.guard.inputs import Inputs
from safelight.guard.pipeline_call import PlannedImages
from safelight.guard.request import Request
from safelight.guard.steering import GuidancePlan, Steering
from safelight.policy import Policy

STEERED = GuidancePlan("sld-strong", ("a gun",), ("a gun",), {"a gun": 1.0})
PLAIN = GuidancePlan()
_SEEDS = count()


@pytest.fixture
def steering(policy: Policy) -> Steering:
    return Steering(policy, object())


def job(
    steering: Steering, plan: GuidancePlan = PLAIN, n: int = 1, deadline: Deadline | None = None, **given: Any
) -> Job:
    """A request for ``n`` images, with these arguments of the pipeline."""
    arguments = CallArguments(Request(("a cat",), n, 0), Inputs.of(given), next(_SEEDS))
    return Job(PlannedImages(dict.fromkeys(range(n), plan), steering, arguments, deadline or Deadline()))


def batches(queue: BatchQueue, *jobs: Job) -> Iterator[list[int]]:
    """The batches that the jobs are given in, each by the jobs' numbers."""
    for each in jobs:
        queue.put(each)
    queue.close()
    while (taken := queue.take()) is not None:
        yield [jobs.index(each) for each in taken]


def test_jobs_are_served_in_the_order_of_arrival(steering: Steering) -> None:
    jobs = [job(steering) for _ in range(5)]
    assert list(batches(BatchQueue(2, 0), *jobs)) == [[0, 1], [2, 3], [4]]


def test_only_like_calls_share_a_batch(steering: Steering) -> None:
    given: list[dict[str, Any]] = [
        {"num_inference_steps": 5},
        {"num_inference_steps": 6},
        {"num_inference_steps": 5, "negative_prompt": "a dog"},
        {"num_inference_steps": 5},
        {"num_inference_steps": 5, "negative_prompt": "a cow"},
    ]
    jobs = [job(steering, **each) for each in given]
    assert list(batches(BatchQueue(8, 0), *jobs)) == [[0, 3], [1], [2, 4]]


def test_calls_that_cannot_be_joined_stay_alone(steering: Steering) -> None:
    own: list[dict[str, Any]] = [{"image": Image.new("RGB", (8, 8))}, {"generator": [torch.Generator()]}]
    jobs = [job(steering, **given) for given in own for _ in range(2)]
    assert list(batches(BatchQueue(8, 0), *jobs)) == [[0], [1], [2], [3]]


def test_steered_images_count_twice_and_a_smaller_job_may_fill_the_rest(steering: Steering) -> None:
    jobs = [job(steering, STEERED, n=2), job(steering, STEERED), job(steering, STEERED)]
    assert list(batches(BatchQueue(4, 0), *jobs)) == [[0], [1, 2]]
    jobs = [job(steering, n=3), job(steering, n=2), job(steering)]
    assert list(batches(BatchQueue(4, 0), *jobs)) == [[0, 2], [1]]


def test_a_harmless_request_is_in_the_next_batch_however_many_steered_ones_wait(steering: Steering) -> None:
    """The two lines take turns, and share no batch."""
    jobs = [*(job(steering, STEERED) for _ in range(6)), job(steering)]
    assert list(batches(BatchQueue(4, 0), *jobs)) == [[6], [0, 1], [2, 3], [4, 5]]


def test_steered_requests_are_not_starved_by_harmless_ones(steering: Steering) -> None:
    jobs = [*(job(steering) for _ in range(9)), job(steering, STEERED)]
    assert list(batches(BatchQueue(4, 0), *jobs)) == [[0, 1, 2, 3], [9], [4, 5, 6, 7], [8]]


def test_a_job_waits_for_others_to_join_it_and_no_longer_than_it_must(steering: Steering) -> None:
    queue = BatchQueue(2, 60.0)
    jobs = [job(steering), job(steering)]
    queue.put(jobs[0])
    taken: list[Any] = []
    thread = threading.Thread(target=lambda: taken.append(queue.take()))
    thread.start()
    time.sleep(0.1)
    assert not taken, "it waits"
    queue.put(jobs[1])
    thread.join(30)
    assert taken == [jobs], "a full batch does not wait"


def test_what_nobody_waits_for_is_not_given(steering: Steering) -> None:
    cancelled = Deadline()
    jobs = [job(steering, deadline=cancelled), job(steering)]
    cancelled.cancel()
    assert list(batches(BatchQueue(4, 0), *jobs)) == [[1]]
    assert jobs[0].outcome.result().images == {}


def test_a_cancelled_outcome_is_not_given(steering: Steering) -> None:
    jobs = [job(steering), job(steering)]
    jobs[0].outcome.cancel()
    assert list(batches(BatchQueue(4, 0), *jobs)) == [[1]]
