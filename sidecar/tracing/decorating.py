"""Functions, each call of which is a span: plain and async ones, generators and async generators.

A generator's span lasts until it is exhausted, closed or raises, and is current only while the generator runs, never in the
code that consumes it.
"""

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, cast

from sidecar.tracing.spans import CURRENT, Function, Span


def decorated(like: Span, function: Function) -> Function:
    """``function``, each call of it in a span ``like`` the given one."""
    target: Callable[..., Any] = function
    found: Callable[..., Any]
    if inspect.isasyncgenfunction(target):

        @functools.wraps(target)
        def found(*args: Any, **kwargs: Any) -> Any:
            return _async_generator(like.again(), target, args, kwargs)

    elif inspect.isgeneratorfunction(target):

        @functools.wraps(target)
        def found(*args: Any, **kwargs: Any) -> Any:
            return _generator(like.again(), target, args, kwargs)

    elif inspect.iscoroutinefunction(target):

        @functools.wraps(target)
        async def found(*args: Any, **kwargs: Any) -> Any:
            with like.again() as span:
                _called(span, args, kwargs)
                result = await target(*args, **kwargs)
                _returned(span, result)
                return result

    else:

        @functools.wraps(target)
        def found(*args: Any, **kwargs: Any) -> Any:
            with like.again() as span:
                _called(span, args, kwargs)
                result = target(*args, **kwargs)
                _returned(span, result)
                return result

    return cast("Function", found)


def _called(span: Span, args: Any, kwargs: Any) -> None:
    if span.captures:
        span.called({"args": list(args), "kwargs": kwargs} if args else kwargs)


def _returned(span: Span, result: Any) -> None:
    try:
        span.returned(result)
    except Exception as error:  # noqa: BLE001 - an answer that cannot be read is still the agent's answer
        span.trouble("returned", error)


def _generator(span: Span, function: Callable[..., Any], args: Any, kwargs: Any) -> Generator[Any, Any, Any]:
    outside = CURRENT.get()
    span.begin(outside)
    _called(span, args, kwargs)
    inner = function(*args, **kwargs)
    send: Callable[[], Any] = functools.partial(next, inner)
    try:
        while True:
            before = CURRENT.get()
            CURRENT.set(span)
            try:
                item = send()
            finally:
                CURRENT.set(before)
            _gave(span, item)
            try:
                given = yield item
                send = functools.partial(inner.send, given)
            except GeneratorExit:
                inner.close()
                raise
            except BaseException as error:  # noqa: BLE001 - thrown in by whoever consumes it: the generator's to answer
                send = functools.partial(inner.throw, error)
    except StopIteration as stop:
        span.end()
        return stop.value
    except GeneratorExit:
        # Whoever consumed it had enough: that is no failure of what gave it.
        span.set("agentops.closed_early", True)
        span.end()
        raise
    except BaseException as error:
        span.end(error)
        raise


async def _async_generator(span: Span, function: Callable[..., Any], args: Any, kwargs: Any) -> AsyncGenerator[Any, Any]:
    outside = CURRENT.get()
    span.begin(outside)
    _called(span, args, kwargs)
    inner = function(*args, **kwargs)
    send: Callable[[], Any] = inner.__anext__
    try:
        while True:
            before = CURRENT.get()
            CURRENT.set(span)
            try:
                item = await send()
            finally:
                CURRENT.set(before)
            _gave(span, item)
            try:
                given = yield item
                send = functools.partial(inner.asend, given)
            except GeneratorExit:
                await inner.aclose()
                raise
            except BaseException as error:  # noqa: BLE001 - as above
                send = functools.partial(inner.athrow, error)
    except StopAsyncIteration:
        span.end()
    except GeneratorExit:
        span.set("agentops.closed_early", True)
        span.end()
        raise
    except BaseException as error:
        span.end(error)
        raise


def _gave(span: Span, item: Any) -> None:
    try:
        span.gave(item)
    except Exception as error:  # noqa: BLE001 - as above
        span.trouble("gave", error)
