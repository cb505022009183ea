"""Work of threads around a model, whose order is that of one after the other; without torch."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, TypeVar

from xdomain.running.outputs import MOST_PIXELS

T = TypeVar("T")
S = TypeVar("S")

THREADS = min(4, os.cpu_count() or 1)
"""For each of reading and encoding; more would wait for Python's lock."""


def ahead(function: Callable[[S], T], items: Iterable[S], depth: int) -> Generator[T]:
    """The results for all items in their order, computed in threads up to ``depth`` items ahead.

    An exception is raised where its result would stand.
    """
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(THREADS, "read") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def depth_for(sizes: Iterable[tuple[int, int]], most: int) -> int:
    """How many pictures of sizes (H, W) may wait, so that large ones do not fill the memory."""
    return most if sum(height * width for height, width in sizes) <= MOST_PIXELS else THREADS


class Behind(Generic[T]):
    """Computes in threads what is needed later, and hands it to a function of the calling thread, in order.

    At the end of its block everything is handed over: also after an exception, unless it came from the function.

    Args:
        take: gets every result.
        depth: results that wait at most.

    Attributes:
        depth: likewise; it can be changed.
    """

    def __init__(self, take: Callable[[T], None], depth: int) -> None:
        self._take, self.depth = take, depth
        self._waiting: deque[Future[T]] = deque()
        self._pool = ThreadPoolExecutor(THREADS, "write")

    def __enter__(self) -> "Behind[T]":
        return self

    def do(self, function: Callable[..., T], *args: Any) -> None:
        """Compute a function's result, after those that were asked for before."""
        self._waiting.append(self._pool.submit(function, *args))
        while self._waiting and (len(self._waiting) > self.depth or self._waiting[0].done()):
            self._next()

    def _next(self) -> None:
        future = self._waiting[0]
        try:
            result = future.result()
        except BaseException:
            if future.done() and future.exception() is not None:  # its own, no signal while it was waited for
                self._waiting.popleft()
            raise
        self._waiting.popleft()
        try:
            self._take(result)
        except BaseException:
            self._waiting.clear()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            while self._waiting:
                self._next()
        finally:
            self._pool.shutdown(cancel_futures=True)
