"""Reading and writing in background threads while the model works."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

Item = TypeVar('Item')


def prefetched(items: Iterable[Item], count: int = 2) -> Generator[Item, None, None]:
    """Yield the items. A background thread makes up to `count` of them in advance.

    An error while making an item is raised when that item is due, and ends the iteration.
    """
    source = iter(items)
    with ThreadPoolExecutor(1, 'ahead') as pool:
        made = deque(pool.submit(_next, source) for _ in range(count))
        try:
            while found := made.popleft().result():
                made.append(pool.submit(_next, source))
                yield found[0]
        finally:
            pool.shutdown(cancel_futures=True)


def _next(source: Iterator[Item]) -> list[Item]:
    """Return a list of the next item, or an empty one at the end."""
    return list(islice(source, 1))


class WriteBehind:
    """A background thread that runs calls later, in order; at most `count` calls wait.

    An error in a call is raised by a later call or at the end. No call runs after it.

        with WriteBehind() as behind:
            behind(write, frame)
    """

    def __init__(self, count: int = 2):
        self._count = count
        self._waiting: deque[Future] = deque()
        self._pool = ThreadPoolExecutor(1, 'behind')
        self._failed = False

    def __call__(self, function: Callable[..., Any], *args: Any) -> None:
        while len(self._waiting) >= self._count:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._run, function, *args))

    def _run(self, function: Callable[..., Any], *args: Any) -> None:
        if self._failed:
            return
        try:
            function(*args)
        except BaseException:
            self._failed = True
            raise

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(cancel_futures=kind is not None)
        if kind is None:
            for call in self._waiting:
                call.result()
