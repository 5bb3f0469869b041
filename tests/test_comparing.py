"""What differs between models and the schema that is deployed: told by `compare`, and by requests where it is wanted."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from convexorm import (
    AsyncSession,
    DeploymentError,
    Id,
    Index,
    InvalidRequestError,
    Mapped,
    Model,
    SearchIndex,
    Session,
    VectorIndex,
    compare,
    connect,
    field,
)
from convexorm.__main__ import main
from convexorm.exports import Export
from tests.conftest import ADMIN_KEY, ROOT, Host, start_host, stop_host
from tests.models import Note, Task


class Room(Model, table="rooms"):
    name: Mapped[str]
    beds: Mapped[int | None] = field(default=None)
    tags: Mapped[list[str | None]] = field(factory=list)
    guest: Mapped[Id[Room]]
    sense: Mapped[list[float]]
    by_name = Index("name")
    by_sense = VectorIndex("sense", dimensions=3)
    by_text = SearchIndex("name")
    by_beds = Index("beds", staged=True)


def optional(kind: Any) -> dict[str, Any]:
    return {"fieldType": kind, "optional": True}


def required(kind: Any) -> dict[str, Any]:
    return {"fieldType": kind, "optional": False}


STRING, NUMBER, NULL = {"type": "string"}, {"type": "number"}, {"type": "null"}
FIELDS: dict[str, Any] = {
    "name": required(STRING),
    "beds": optional(NUMBER),
    "tags": required({"type": "array", "value": {"type": "union", "value": [NULL, STRING]}}),
    "guest": required({"type": "id", "tableName": "rooms"}),
    "sense": required({"type": "array", "value": NUMBER}),
}
ROOMS: dict[str, Any] = {
    "tableName": "rooms",
    "indexes": [{"indexDescriptor": "by_name", "fields": ["name"]}, {"indexDescriptor": "by_beds", "fields": ["beds"]}],
    "searchIndexes": [{"indexDescriptor": "by_text", "searchField": "name", "filterFields": []}],
    "vectorIndexes": [{"indexDescriptor": "by_sense", "vectorField": "sense", "dimensions": 3, "filterFields": []}],
    "documentType": {"type": "object", "value": FIELDS},
}


def exported(*tables: dict[str, Any], validated: bool = True) -> Export:
    return Export.told({"tables": list(tables), "schemaValidation": validated})


def rooms(**fields: Any) -> dict[str, Any]:
    """The table with other fields; None for one that it has not."""
    merged = {name: told for name, told in {**FIELDS, **fields}.items() if told is not None}
    return {**ROOMS, "documentType": {"type": "object", "value": merged}}


def told(export: Export) -> list[str]:
    return [str(one) for one in compare([Room], export)]


def test_a_schema_that_serves_the_models_has_no_differences() -> None:
    another = {"tableName": "others", "indexes": [], "documentType": {"type": "any"}}
    more = {"indexDescriptor": "by_more", "fields": ["name", "beds"]}
    assert told(exported(ROOMS, another)) == []
    assert told(exported({**rooms(more=optional(STRING)), "indexes": [*ROOMS["indexes"], more]})) == []
    staged = {**ROOMS, "indexes": ROOMS["indexes"][:1], "stagedDbIndexes": ROOMS["indexes"][1:]}
    assert told(exported(staged)) == []
    assert told(exported({**ROOMS, "documentType": {"type": "any"}})) == []
    assert told(exported(rooms(name=required(NUMBER)), validated=False)) == []


@pytest.mark.parametrize(
    ("table", "differences"),
    [
        (rooms(name=required(NUMBER)), ["rooms.name: the models say v.string(), deployed is v.number()"]),
        (rooms(name=optional(STRING)), ["rooms.name: the models say v.string(), deployed is v.optional(v.string())"]),
        (rooms(beds=None), ["rooms.beds: v.optional(v.number()) is not deployed"]),
        (rooms(more=required(STRING)), ["rooms.more: v.string() is deployed, and the models do not have it"]),
        (
            rooms(guest=required({"type": "id", "tableName": "guests"})),
            ['rooms.guest: the models say v.id("rooms"), deployed is v.id("guests")'],
        ),
        (
            {**ROOMS, "indexes": [{"indexDescriptor": "by_name", "fields": ["beds"]}, ROOMS["indexes"][1]]},
            ['rooms.by_name: the models say .index("by_name", ["name"]), deployed is .index("by_name", ["beds"])'],
        ),
        (
            {**ROOMS, "indexes": ROOMS["indexes"][1:], "stagedDbIndexes": ROOMS["indexes"][:1]},
            [
                'rooms.by_name: the models say .index("by_name", ["name"]), deployed is '
                '.index("by_name", { fields: ["name"], staged: true })'
            ],
        ),
        (
            {**ROOMS, "searchIndexes": [], "vectorIndexes": []},
            [
                'rooms.by_text: .searchIndex("by_text", { searchField: "name" }) is not deployed',
                'rooms.by_sense: .vectorIndex("by_sense", { vectorField: "sense", dimensions: 3 }) is not deployed',
            ],
        ),
    ],
    ids=lambda one: one[0] if isinstance(one, list) else "",
)
def test_a_difference_names_the_part_and_both_sides(table: dict[str, Any], differences: list[str]) -> None:
    assert told(exported(table)) == differences


def test_tables_of_several_shapes_are_compared_as_one() -> None:
    shapes = [
        {"type": "object", "value": {name: told for name, told in FIELDS.items() if name != but}} for but in ("", "beds")
    ]
    table = {**ROOMS, "documentType": {"type": "union", "value": shapes}}
    assert told(exported(table)) == []
    without = {**ROOMS, "documentType": {"type": "union", "value": [shapes[0], {"type": "object", "value": {}}]}}
    assert told(exported(without))[0] == "rooms.name: the models say v.string(), deployed is v.optional(v.string())"


def test_a_table_that_is_not_there_is_one_difference() -> None:
    assert told(exported()) == ["table 'rooms' is not deployed"]


def test_what_is_no_schema_or_no_model_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="a deployment is needed"):
        compare([Room], {"tables": []})  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="a model is needed"):
        compare([int], exported())  # type: ignore[list-item]
    with connect("memory:") as deployment, pytest.raises(InvalidRequestError, match="embedded"):
        compare([Room], deployment)


# -- what is deployed ----------------------------------------------------------------------------------------------


def test_a_deployment_is_asked_for_its_schema_on_both_faces(models_host: Host) -> None:
    with models_host.connect() as deployment:
        assert [str(one) for one in compare([Task, Note, Room], deployment)] == ["table 'rooms' is not deployed"]
        assert asyncio.run(deployment.adescribe()) == deployment.describe()


class OtherTask(Model, table="tasks"):
    text: Mapped[str]
    weight: Mapped[float]
    by_weight = Index("weight")


def test_requests_are_refused_about_tables_that_are_deployed_otherwise(models_host: Host) -> None:
    with connect(models_host.url, models_host.key, check_schema=True) as deployment:
        asked: list[str | None] = []
        deployment.on_request(lambda request: asked.append(request.function))
        for _ in range(2):
            with Session(deployment) as session:
                session.add(OtherTask(text="x", weight=1.0))
                with pytest.raises(DeploymentError, match=r"tasks\.weight: v\.number\(\) is not deployed"):
                    session.commit()
                with pytest.raises(DeploymentError, match="python -m convexorm reflect"):
                    session.all(OtherTask.query().limit(1))
        with Session(deployment) as session:
            models_host.reset()
            for _ in range(3):
                session.all(Task.query().limit(1))
            assert models_host.metrics()["calls"] == 4

        async def awaited() -> None:
            async with AsyncSession(deployment) as session:
                with pytest.raises(DeploymentError, match="is not deployed"):
                    await session.all(OtherTask.query().limit(1))

        asyncio.run(awaited())


def test_a_deployment_is_reflected_as_its_folder_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = ROOT / "examples" / "app" / "convex"
    folder = tmp_path / "convex"
    folder.mkdir()
    for file in app.rglob("*.ts"):
        target = folder / file.relative_to(app)
        target.parent.mkdir(exist_ok=True, parents=True)
        target.write_text(file.read_text())
    (tmp_path / "package.json").write_text('{"dependencies": {"convex": "1.48.0"}}')
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    assert main(["init", "--convex", str(tmp_path)]) == 0
    schema = folder / "schema.ts"
    if "ormTables" not in schema.read_text():
        text = schema.read_text().replace("defineSchema({", "defineSchema({\n  ...ormTables,", 1)
        schema.write_text('import { ormTables } from "./orm/tables";\n' + text)
    process, url = start_host(folder)
    try:
        monkeypatch.setenv("CONVEX_ADMIN_KEY", ADMIN_KEY)
        assert main(["reflect", "--url", url, "--out", str(tmp_path / "asked.py")]) == 0
        assert main(["reflect", "--url", url, "--out", str(tmp_path / "asked.py"), "--check"]) == 0
        assert main(["reflect", "--convex", str(tmp_path), "--out", str(tmp_path / "read.py")]) == 0
        asked, read = ((tmp_path / name).read_text().splitlines() for name in ("asked.py", "read.py"))
        assert [one for one in asked if "as models" not in one][1:] == [one for one in read if "as models" not in one][1:]
        spec = importlib.util.spec_from_file_location("asked", tmp_path / "asked.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        models = [
            one for one in vars(module).values() if isinstance(one, type) and issubclass(one, Model) and one is not Model
        ]
        with connect(url, ADMIN_KEY) as deployment:
            assert compare(models, deployment) == []
        monkeypatch.setenv("CONVEX_ADMIN_KEY", "other|key")
        capsys.readouterr()
        assert main(["reflect", "--url", url, "--out", str(tmp_path / "not.py")]) == 1
        assert "refused the admin key" in capsys.readouterr().err
        assert not (tmp_path / "not.py").exists()
    finally:
        stop_host(process)


def test_functions_without_a_schema_to_tell_are_one_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "convex").mkdir()
    (tmp_path / "convex" / "schema.ts").write_text(
        'import { defineSchema } from "convex/server";\nexport default defineSchema({});'
    )
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    process, url = start_host(tmp_path / "convex")
    try:
        monkeypatch.setenv("CONVEX_ADMIN_KEY", ADMIN_KEY)
        assert main(["reflect", "--url", url, "--out", str(tmp_path / "models.py")]) == 1
        assert "orm:describe" in capsys.readouterr().err
        assert not (tmp_path / "models.py").exists()
    finally:
        stop_host(process)
