"""Calls that start at the same moment, and readings taken while they run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
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
