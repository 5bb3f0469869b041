"""References in the schema, and in sessions that have other names for tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from convexorm import Session, ValidationError, connect
from convexorm.__main__ import main
from tests.conftest import ROOT
from tests.relations.models import Category

SCHEMA = ROOT / "tests" / "relations" / "functions" / "schema.ts"


def test_the_schema_of_the_tests_is_that_of_their_models() -> None:
    assert main(["schema", "tests.relations.models", "--out", str(SCHEMA), "--check"]) == 0


def test_ids_are_of_the_table_as_it_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "tests.relations.models", "--rename", "categories=kinds"]) == 0
    written = capsys.readouterr().out
    assert 'parent_id: v.optional(v.id("kinds"))' in written
    assert 'others: v.array(v.id("kinds"))' in written
    assert "categories" not in written


def test_a_session_may_have_other_names_for_tables() -> None:
    with connect("memory:") as deployment:
        with Session(deployment, tables={"categories": "kinds"}) as session:
            leaf = Category(name="leaf", parent=Category(name="root"))
            session.add(leaf)
            session.commit()
            session.expunge_all()
            found = session.get_one(Category, leaf.convex_id, load=[Category.parent.load(Category.children)])
            assert found.parent is not None
            assert found.parent.children == [found]
            session.delete(found.parent)
            session.commit()
            assert session.count(Category.query().full_scan()) == 0
        with Session(deployment) as session:
            session.add(Category(name="of another table", parent_id=leaf.convex_id))
            with pytest.raises(ValidationError, match="expected an id of table 'categories'"):
                session.commit()


def test_the_table_of_an_id_has_to_be_in_the_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """
from convexorm import Id, Mapped, Model
from tests.relations import models

class Alone(Model, table="alone"):
    category_id: Mapped[Id[models.Category]]
"""
    (tmp_path / "alone_models.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["schema", "alone_models"]) == 1
    assert "Alone holds ids of table 'categories'; name the module" in capsys.readouterr().err
    assert main(["schema", "alone_models", "tests.relations.models"]) == 0
