"""Errors travel: whatever either package raises crosses a process and copies, with all that it says."""

from __future__ import annotations

import copy
import importlib
import inspect
import multiprocessing
import pickle
import pkgutil
import typing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.pool import Pool
from typing import Any

import pytest

import convexorm
import mastra_convex
from convexorm import LimitExceeded, Session, StaleDataError, connect
from tests.models import Note


def error_classes() -> list[type[BaseException]]:
    """All exceptions of both packages, private ones too."""
    for package in (convexorm, mastra_convex):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)

    def below(cls: type[BaseException]) -> Iterator[type[BaseException]]:
        yield cls
        for each in cls.__subclasses__():
            yield from below(each)

    found = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in below(BaseException)}
    return [cls for name, cls in sorted(found.items()) if name.split(".")[0] in ("convexorm", "mastra_convex")]


def example(cls: type[BaseException]) -> BaseException:
    """An error with something for each argument that its class takes."""
    if not inspect.isfunction(cls.__init__):
        return cls("what is wrong")
    hints = typing.get_type_hints(cls.__init__)
    positional, named = [], {}
    for name, parameter in list(inspect.signature(cls.__init__).parameters.items())[1:]:
        if parameter.kind is parameter.VAR_POSITIONAL:
            return cls("what is wrong")
        value = _made_up(hints[name])
        if parameter.kind is parameter.KEYWORD_ONLY:
            named[name] = value
        else:
            positional.append(value)
    return cls(*positional, **named)


def _made_up(hint: Any) -> Any:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return parts[0]
    if type(None) in parts:
        return _made_up(parts[0])
    if origin is not None and issubclass(origin, Sequence):
        return ("a", "b")
    return {str: "a text", int: 7, float: 0.5, bool: True, object: {"code": ["data"]}}.get(hint, "anything")


CLASSES = error_classes()
WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_pickles_and_copies_with_its_attributes(cls: type[BaseException], way: str) -> None:
    error = example(cls)
    error.add_note("seen on the way")
    there = WAYS[way](error)
    assert type(there) is cls
    assert (str(there), there.args, vars(there)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
def test_an_instance_in_an_error_comes_out_detached(way: str) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        session.add(Note(id="a", title="mine"))
        session.commit()
        session.add(Note(id="a", title="yours"))
        with pytest.raises(StaleDataError) as caught:
            session.commit()
        there = WAYS[way](caught.value)
        assert isinstance(there.instance, Note)
        assert there.instance.title == "yours"
        assert there.instance not in session
        assert isinstance(caught.value.instance, Note)
        assert caught.value.instance in session


def _exceeds(_: int) -> None:
    raise LimitExceeded("writes of one commit", maximum=1, actual=2, table="notes")


def _conflicts(_: int) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        session.add_all([Note(id="a"), Note(id="a")])
        session.commit()


SPAWN = multiprocessing.get_context("spawn")


def test_a_worker_of_a_pool_tells_its_error() -> None:
    pool: Pool
    with SPAWN.Pool(1) as pool:
        with pytest.raises(LimitExceeded) as caught:
            pool.apply_async(_exceeds, (0,)).get(timeout=120)
        assert (caught.value.maximum, caught.value.actual, caught.value.table) == (1, 2, "notes")
        pool.close()
        pool.join()


def test_an_executor_lives_on_after_an_error_of_one_job() -> None:
    with ProcessPoolExecutor(1, mp_context=SPAWN) as executor:
        with pytest.raises(StaleDataError) as caught:
            executor.submit(_conflicts, 0).result(timeout=120)
        assert isinstance(caught.value.instance, Note)
        assert executor.submit(abs, -1).result(timeout=120) == 1
