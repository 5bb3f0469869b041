"""Function specs as modules of methods."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from convex import ConvexInt64

from convexorm import (
    Functions,
    Id,
    Index,
    InvalidRequestError,
    Mapped,
    Model,
    ValidationError,
    connect,
)
from convexorm.__main__ import main
from convexorm.exports.spec import Spec
from convexorm.projects.api import KnownModel, api_of
from tests.conftest import ROOT

ANY: Any = {"type": "any"}
NUMBER: Any = {"type": "number"}
STRING: Any = {"type": "string"}
NULL: Any = {"type": "null"}


def obj(**fields: Any) -> Any:
    """An object's validator; fields whose names end in `_q` may be missing."""
    named = {name.removesuffix("_q"): {"fieldType": told, "optional": name.endswith("_q")} for name, told in fields.items()}
    return {"type": "object", "value": named}


def function(identifier: str, args: Any = None, returns: Any = None, kind: str = "Query", who: str = "public") -> Any:
    return {
        "identifier": identifier,
        "functionType": kind,
        "visibility": {"kind": who},
        "args": obj() if args is None else args,
        "returns": returns,
    }


def union(*members: Any) -> Any:
    return {"type": "union", "value": list(members)}


def array(items: Any) -> Any:
    return {"type": "array", "value": items}


class Page(Model, table="pages"):
    title: Mapped[str]
    next: Mapped[Id[Page] | None]
    by_title = Index("title")


PAGE = obj(
    _id={"type": "id", "tableName": "pages"},
    _creationTime=NUMBER,
    title=STRING,
    next_q={"type": "id", "tableName": "pages"},
)
PAGES = obj(page=array(PAGE), isDone={"type": "boolean"}, continueCursor=STRING)
OPTIONS = obj(numItems=NUMBER, cursor=union(STRING, NULL))
ODD = {
    "url": "https://happy-animal-123.convex.cloud",
    "functions": [
        function("pages.js:list", obj(paginationOpts=OPTIONS, page_size_q=NUMBER), PAGES),
        function("pages.js:get", obj(id={"type": "id", "tableName": "pages"}), union(PAGE, NULL)),
        function("pages.js:str", obj(**{"class": STRING, "self": STRING, "int_q": NUMBER}), array(STRING)),
        function("pages.js:int", obj(value=union({"type": "literal", "value": "a str"}, STRING)), NUMBER),
        function("pages.js:import", obj(a_q=union(STRING, NULL), b_q=ANY), ANY, "Mutation"),
        function("pages.js:default", ANY, NULL, "Action"),
        function("pages/parts.js:untold", obj(), union(obj(a=STRING), obj(a=STRING, b=STRING))),
        function("deep-er/pages.js:list", obj(of=obj(x=NUMBER, y_q=STRING)), obj(x=NUMBER, y_q=STRING), who="internal"),
        function("internal.js:same", obj(), {"type": "bigint"}),
        function("internal.js:big", obj(n={"type": "bigint"}, some_q=array(obj(x={"type": "bigint"}))), NULL, "Mutation"),
        {"functionType": "HttpAction", "method": "GET", "path": "/x"},
    ],
}


def test_a_spec_becomes_a_module_whose_types_hold(tmp_path: Path) -> None:
    known = {"pages": KnownModel("pages", "Page", Page.__mapper__.table)}
    source = api_of(Spec.told(ODD), "Odd ones.", known)
    assert api_of(Spec.told({"functions": ODD["functions"][::-1]}), "Odd ones.", known) == source, "in whatever order"
    (tmp_path / "api.py").write_text(source)
    (tmp_path / "pages.py").write_text(
        "from convexorm import Id, Index, Mapped, Model\n\n\nclass Page(Model, table='pages'):\n"
        "    title: Mapped[str]\n    next: Mapped[Id['Page'] | None]\n    by_title = Index('title')\n"
    )
    (tmp_path / "use.py").write_text(
        "from collections.abc import AsyncIterator, Iterator\n"
        "from typing import Any, assert_type\n\n"
        "from api import Api, AsyncApi\n"
        "from convexorm import Id\n"
        "from pages import Page\n\n\n"
        "async def use(api: Api, awaited: AsyncApi, id: Id[Page]) -> None:\n"
        "    assert_type(api.pages.list(page_size_=2.0, page_size=5), Iterator[Page])\n"
        "    assert_type(awaited.pages.list(), AsyncIterator[Page])\n"
        "    assert_type(api.pages.get(id=id), Page | None)\n"
        "    assert_type(await awaited.pages.get(id=id), Page | None)\n"
        "    assert_type(api.pages.str(class_='c', self_='s', int=3), list[str])\n"
        "    assert_type(api.pages.int(value='x'), float)\n"
        "    assert_type(api.pages.import_(a=None), Any)\n"
        "    api.pages.default(anything=1)\n"
        "    assert_type(api.pages.parts.untold(), Any)\n"
        "    assert_type(api.internal.same(), int)\n"
        "    api.internal.big(n=5, some=[{'x': 6}])\n"
        "    api.internal_.deep_er.pages.list(of={'x': 1.0})\n"
    )
    check = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "api.py", "use.py", "pages.py"]
    run = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    lint = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F,E9", "api.py"], cwd=tmp_path, check=False
    )
    assert lint.returncode == 0


def test_what_is_not_given_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    source = api_of(Spec.told(ODD), "Odd ones.", {})
    names: dict[str, Any] = {"__name__": "api"}
    monkeypatch.setitem(sys.modules, "api", sys)  # classes look for their module
    exec(compile(source, "api.py", "exec"), names)
    seen: list[dict[str, Any]] = []

    def sees(**arguments: Any) -> None:
        seen.append(arguments)

    with connect("memory:", functions={"pages:import": sees, "pages": sees}) as deployment:
        api = names["Api"](deployment)
        api.pages.import_()
        api.pages.import_(a=None, b=None)
        api.pages.import_(a="x")
        api.pages.default(anything={"x": 1})
    assert seen == [{}, {"a": None, "b": None}, {"a": "x"}, {"anything": {"x": 1}}]


def test_an_int64_is_sent_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "api_of_int64.py").write_text(api_of(Spec.told(ODD), "Odd ones.", {}))
    monkeypatch.syspath_prepend(tmp_path)
    sent: list[dict[str, Any]] = []
    api = import_module("api_of_int64").Api(
        connect("memory:", functions={"internal:big": lambda **arguments: sent.append(arguments)})
    )
    api.internal.big(n=5, some=[{"x": 2**60}])
    api.internal.big(n=2**62)
    assert sent == [
        {"n": ConvexInt64(5), "some": [{"x": ConvexInt64(2**60)}]},
        {"n": ConvexInt64(2**62)},
    ]
    for wrong in (1.5, "5", 2**63, None):
        with pytest.raises(ValidationError, match=r"the arguments of internal:big\.n"):
            api.internal.big(n=wrong)
    with pytest.raises(ValidationError, match=r"internal:big\.some\[0\]"):
        api.internal.big(n=1, some=[{"x": "a"}])


def test_items_of_pages_come_one_after_the_other() -> None:
    calls: list[Any] = []

    def listed(*, channel: str, **given: Any) -> Any:
        options = given["paginationOpts"]
        calls.append((options, channel))
        start = int(options["cursor"] or 0)
        end = min(start + int(options["numItems"]), 5)
        return {"page": list(range(start, end)), "isDone": end == 5, "continueCursor": str(end)}

    answers: dict[str, Any] = {
        "broken:none": lambda **_: 5,
        "broken:still": lambda **_: {"page": [], "isDone": False, "continueCursor": None},
        "broken:type": lambda **_: {"page": ["x"], "isDone": True, "continueCursor": ""},
    }
    with connect("memory:", functions={"a:list": listed, **answers}) as deployment:
        functions = Functions(deployment)
        assert list(functions.paginate("a:list", {"channel": "c"}, returns=int, page_size=2)) == [0, 1, 2, 3, 4]
        assert [options["cursor"] for options, _ in calls] == [None, "2", "4"]
        calls.clear()
        first = functions.paginate("a:list", {"channel": "c"}, returns=int, page_size=2)
        assert next(first) == 0
        assert len(calls) == 1, "a page is asked for when it is needed"
        for path in answers:
            with pytest.raises(ValidationError, match=path):
                list(functions.paginate(path, returns=int))
        for size in (0, True, 1.5):
            with pytest.raises(InvalidRequestError, match="page_size"):
                list(functions.paginate("a:list", page_size=size))  # type: ignore[arg-type]


WRONG: list[tuple[Any, str]] = [
    ([1], r"functions\[0\]"),
    (5, "no function spec"),
    ({"version": 2}, "no function spec"),
    ([{"functionType": "Query"}], "identifier"),
    ([function("a b:c")], "identifier"),
    ([function("a.js:b", kind="Subscription")], "a.js:b.*function type"),
    ([{**function("a.js:b"), "visibility": "public"}], "visibility"),
    ([function("a.js:b", NUMBER)], "arguments are an object"),
    ([function("a.js:b", obj(x={"type": "decimal"}))], "a.js:b.*args.x.*unknown kind 'decimal'"),
    ([function("a.js:b", returns={"type": "array"})], "returns"),
    ([function("a.js:b"), function("a.ts:b")], "there twice"),
]


@pytest.mark.parametrize(("told", "problem"), WRONG)
def test_a_spec_that_is_none_is_refused_and_nothing_written(
    told: Any, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidRequestError, match=problem):
        Spec.told(told)
    spec, out = tmp_path / "spec.json", tmp_path / "api.py"
    spec.write_text(json.dumps(told))
    assert main(["api", "--spec", str(spec), "--out", str(out)]) == 1
    assert not out.exists()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_command_writes_only_what_is_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, out = tmp_path / "spec.json", tmp_path / "api.py"
    spec.write_text(json.dumps(ODD))
    command = ["api", "--spec", str(spec), "--out", str(out)]
    assert main([*command, "--check"]) == 1
    assert main(command) == 0
    assert main([*command, "--check"]) == 0
    out.write_text("mine = 1\n")
    assert main(command) == 1
    assert out.read_text() == "mine = 1\n"
    assert main([*command, "--force"]) == 0
    spec.write_text("{")
    assert main(command) == 1
    assert main(["api", "--spec", str(tmp_path / "none.json"), "--out", str(out)]) == 1
    assert "is no JSON" in capsys.readouterr().err


def test_a_module_that_cannot_be_evaluated_is_said_with_its_own_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "package.json").write_text("{}")
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    folder = tmp_path / "convex"
    folder.mkdir()
    out = tmp_path / "api.py"
    head = 'import { queryGeneric as query } from "convex/server";\nimport { v } from "convex/values";\n'
    (folder / "good.tsx").write_text(
        "/** @jsxRuntime classic */\n" + head + "const shown = () => <b>{(1 as number)}</b>;\n"
        "export const one = query({ args: { n: v.number() }, handler: () => typeof shown });\n"
    )
    (folder / "old.mjs").write_text(head + "export const two = query({ handler: () => null });\n")
    (folder / "good.test.ts").write_text("throw new Error('tests are no modules');\n")
    command = ["api", "--convex", str(tmp_path), "--out", str(out)]
    assert main(command) == 0
    assert "def one(self, *, n: float)" in out.read_text()
    assert "def two(self, **arguments: Any)" in out.read_text()
    before = out.read_text()
    (folder / "broken.ts").write_text(head + 'throw new Error("no key for the weather");\n')
    assert main(command) == 1
    assert "no key for the weather" in capsys.readouterr().err
    assert out.read_text() == before
