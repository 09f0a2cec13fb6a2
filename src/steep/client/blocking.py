"""The blocking face of the client, out of the waiting one.

What the client does is written once, as coroutines. On a `BlockingTransport` nothing in them ever waits, so one push runs
a coroutine to its end: no event loop is needed, and none is disturbed, as in a notebook that has one already.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
Inner = TypeVar("Inner")


class Face(Generic[Inner]):
    """The blocking face of something; holds the waiting one."""

    def __init__(self, inner: Inner) -> None:
        self._inner = inner


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, and return what it returns."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast(T, done.value)
    coroutine.close()
    raise AssertionError("something waits that is built on a blocking transport")


@overload
def blocking(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Any, P], T]: ...
@overload
def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]], then: Callable[[T], R]
) -> Callable[Concatenate[Any, P], R]: ...
def blocking(method: Callable[..., Coroutine[Any, Any, Any]], then: Callable[[Any], Any] | None = None) -> Any:
    """The blocking twin of a method.

    Args:
        method: of the class that the face is of.
        then: makes a face of what it returns.
    """

    @wraps(method)
    def call(self: Face[Any], *arguments: Any, **options: Any) -> Any:
        result = finish(method(self._inner, *arguments, **options))
        return result if then is None else then(result)

    return call


@overload
def iterating(
    method: Callable[Concatenate[Any, P], AsyncIterator[T]],
) -> Callable[Concatenate[Any, P], Iterator[T]]: ...
@overload
def iterating(
    method: Callable[Concatenate[Any, P], AsyncIterator[T]], then: Callable[[T], R]
) -> Callable[Concatenate[Any, P], Iterator[R]]: ...
def iterating(method: Callable[..., AsyncIterator[Any]], then: Callable[[Any], Any] | None = None) -> Any:
    """The blocking twin of a method that gives items one after another. See `blocking`."""

    @wraps(method)
    def call(self: Face[Any], *arguments: Any, **options: Any) -> Iterator[Any]:
        items = cast(AsyncGenerator[Any, None], method(self._inner, *arguments, **options))
        try:
            while True:
                try:
                    item = finish(_next(items))
                except StopAsyncIteration:
                    return
                yield item if then is None else then(item)
        finally:
            finish(_close(items))

    return call


async def _next(items: AsyncGenerator[T, None]) -> T:
    return await anext(items)


async def _close(items: AsyncGenerator[Any, None]) -> None:
    await items.aclose()
