"""Work spread over processes, with results in the order of the tasks; small work is done here, as a process costs a second."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, Self, TypeVar

from steep.spec.errors import SteepError

SMALL_BYTES = 8 << 20  # less text than this is worked on in this process
_AHEAD = 2  # tasks handed over per process: none waits, and memory stays bounded
_HELD = 4  # results per worker that wait for those before them

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """Processes to work in, started when first needed. Use it as a context manager.

    Args:
        num_workers: how many; 1 does everything in this process. By default one for each core.
        helps: this process is one of them, which saves the start of another: for work that cannot bring it down.
    """

    def __init__(self, num_workers: int | None = None, *, helps: bool = False) -> None:
        self.num_workers = num_workers or _num_cores()
        self._helps = helps
        self._num_processes = self.num_workers - 1 if helps else self.num_workers
        self._handed_over: set[Future[Any]] = set()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: object, *more: object) -> None:
        """After an error wait for what they are at, so that nothing is written any more; else let them end by themselves."""
        if self._pool is not None:
            self._pool.shutdown(wait=error is not None, cancel_futures=True)

    def are_worth(self, size_bytes: float) -> bool:
        """Whether work on so much text is quicker in several processes."""
        return self.num_workers > 1 and size_bytes > SMALL_BYTES

    def map(self, function: Callable[[T], R], tasks: Iterable[T], size_bytes: float) -> Iterator[R]:
        """`function` of each task, in order; a function and tasks that can be pickled. Takes tasks as they are needed.

        Args:
            function: what to do.
            tasks: with what. Where it is known how many are left, the last ones are shared out evenly.
            size_bytes: how much text all of it is about.

        Raises:
            SteepError: the system ended one of the processes.
        """
        if not self.are_worth(size_bytes):
            yield from map(function, tasks)
            return
        pending: deque[Future[R]] = deque()
        most = (_HELD if self._helps else _AHEAD) * self.num_workers
        with _ended_processes_are_told_of():
            left = len(tasks) if isinstance(tasks, Sized) else None
            for number, task in enumerate(tasks):
                is_last = left is not None and left - number <= self.num_workers
                enough = (1 if is_last else _AHEAD) * self._num_processes
                busy = self._helps and len(self._handed_over) >= enough
                pending.append(_done_here(function, task) if busy else self._hand_over(function, task))
                while pending and (len(pending) >= most or pending[0].done()):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def warm(self, function: Callable[[T], object], task: T, size_bytes: float) -> None:
        """Start the processes while this one still gets ready, each with this task; how it ends is nobody's concern.

        Args:
            function: what each will need anyway, such as loading something.
            task: what to do it with.
            size_bytes: how much text there will be to work on; for a little none is started.

        Raises:
            SteepError: the system ended one of the processes.
        """
        if self.are_worth(size_bytes):
            with _ended_processes_are_told_of():
                for _ in range(self._num_processes):
                    self._hand_over(function, task)

    def start(self, function: Callable[[T], R], task: T) -> Callable[[], R]:
        """Start one task beside all others, where processes run already; returns how to get its result.

        Raises:
            SteepError: the system ended one of the processes; here, or where the result is asked for.
        """
        if self._pool is None:
            return partial(function, task)
        with _ended_processes_are_told_of():
            future = self._hand_over(function, task)

        def result() -> R:
            with _ended_processes_are_told_of():
                return future.result()

        return result

    def _hand_over(self, function: Callable[[T], R], task: T) -> Future[R]:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")  # a fork would inherit threads that hold locks
            self._pool = ProcessPoolExecutor(self._num_processes, mp_context=context, initializer=_end_with_parent)
        future = self._pool.submit(function, task)
        self._handed_over.add(future)
        future.add_done_callback(self._handed_over.discard)
        return future


def _done_here(function: Callable[[T], R], task: T) -> Future[R]:
    """The result as if another process had come to it, so that an error waits for the results before it too."""
    future: Future[R] = Future()
    try:
        future.set_result(function(task))
    except Exception as error:  # noqa: BLE001 - raised where the result is asked for
        future.set_exception(error)
    return future


@contextlib.contextmanager
def _ended_processes_are_told_of() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise SteepError(
            "a process that worked on the corpus was ended from outside, most likely because memory ran out",
            where="prepare",
            cure="Free some memory and run the same command again; it goes on where it was. A script that prepares a corpus "
            'must do so under `if __name__ == "__main__":`, as the processes import it.',
        ) from error


def _num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _end_with_parent() -> None:
    """Let this process end when the one that started it does, however that ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
