"""Concurrency: calls that start at the same moment, calls with a deadline, readings taken meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

SAMPLE_EVERY_S = 0.02


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """The results of all calls, in their order; all have ended when the first error, if any, is raised."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        gate.wait(timeout=30)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(run, call) for call in calls]
    return [future.result() for future in futures]


def in_time(calls: Mapping[str, Callable[[], T]], within: float) -> dict[str, T]:
    """The results, by name, of those calls that end within so many seconds.

    The others are left behind, in threads that end with the process.
    """
    results: dict[str, T] = {}

    def run(name: str) -> None:
        results[name] = calls[name]()

    threads = [threading.Thread(target=run, args=(name,), daemon=True, name=name) for name in calls]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + within
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(results)


@contextmanager
def sampling(read: Callable[[], T]) -> Iterator[list[T]]:
    """Readings in the order of time, taken one after another until the block ends; at least one.

    An error of a reading is raised at the end of the block, if the block itself ended well.
    """
    samples: list[T] = []
    errors: list[BaseException] = []
    ended = threading.Event()

    def sample() -> None:
        try:
            while True:
                samples.append(read())
                if ended.wait(SAMPLE_EVERY_S):
                    return
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=sample, daemon=True, name="sampler")
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join(60)
    if errors:
        raise errors[0]
