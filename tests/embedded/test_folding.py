"""Aggregates that are found of many documents at once are those that are found of one after the other."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from convexorm import DeploymentError, Index, Mapped, Model, Session, connect, field
from convexorm.deployments.embedded import excerpts, folding, walks
from convexorm.requests import ReadResult

QUICK = 0.0, 1.5, 2.0**60, 0.1, None


class Sale(Model, table="sales"):
    state: Mapped[str]
    amount: Mapped[float | None] = field(default=None)
    paid: Mapped[bool] = field(default=False)
    kind: Mapped[Literal["a", 1, True] | None] = field(default=None)
    n: Mapped[int] = field(default=0)
    by_state = Index("state", "n")


class Loose(Model, table="sales"):
    """What another program may write there."""

    state: Mapped[Any]
    amount: Mapped[Any] = field(default=None)
    kind: Mapped[Any] = field(default=None)


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each read was answered quickly; and texts of few rows."""
    answers: list[bool] = []

    def fold_rows(*arguments: Any) -> ReadResult | None:
        answer = folding.fold_rows(*arguments)
        answers.append(answer is not None)
        return answer

    monkeypatch.setattr(walks, "fold_rows", fold_rows)
    monkeypatch.setattr(folding, "_AT_ONCE", 14)
    return answers


def asked(session: Session) -> Iterator[tuple[str, str]]:
    """Answers, and the same found document by document."""
    everything = Sale.query().full_scan()
    for query in (everything, Sale.query().where(Sale.state == "x"), Sale.query().by_index("by_state", state="x", n=3)):
        slowly = query.where(Sale.state != "none").full_scan()
        grouped = [
            [
                *(one.group_by(Sale.state).sum(column) for column in (Sale.amount, Sale.n)),
                *(one.group_by(*by).count() for by in ((Sale.amount,), (Sale.paid, Sale.kind), (Sale.kind,), (Sale.n,))),
                one.group_by(Sale.kind).max(Sale.amount),
                *(one.sum(Sale.amount), one.min(Sale.n), one.max(Sale.state), one.count()),
            ]
            for one in (query, slowly)
        ]
        for quick, slow in zip(*grouped, strict=True):
            yield repr(session.read(quick)), repr(session.read(slow))


def add(session: Session, values: tuple[Any, ...]) -> None:
    chance = random.Random(3)
    kinds: Any = "a", 1, True, None
    for n in range(50):
        session.add(
            Sale(
                state=chance.choice("xyz"),
                amount=chance.choice(values),
                paid=n % 3 == 0,
                kind=chance.choice(kinds),
                n=n % 5,
            )
        )
    session.commit()


@pytest.mark.parametrize("values", [QUICK, (0.0, -0.0), (1.0, float("inf"))])
def test_what_is_declared_is_parsed_as_declared(values: tuple[Any, ...], folded: list[bool]) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        add(session, values)
        for quick, slow in asked(session):
            assert quick == slow
        assert folded.count(True) > 5


def test_a_group_of_zero_is_found_quickly_unless_there_are_two(folded: list[bool]) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        add(session, (0.0, 1.0))
        session.all(Sale.query().full_scan().group_by(Sale.amount).count())
        session.add(Sale(state="x", amount=-0.0))
        session.commit()
        groups = session.all(Sale.query().full_scan().group_by(Sale.amount).count())
        assert repr([value for value, _ in groups]) == "[-0.0, 0.0, 1.0]"
    assert folded == [True, False]


@pytest.mark.parametrize("odd", [Loose(state=1.0), Loose(state="x", amount="many"), Loose(state="x", kind={"a": 1.0})])
def test_what_is_not_as_declared_is_found_one_by_one(odd: Loose, folded: list[bool]) -> None:
    with connect("memory:") as deployment:
        with Session(deployment) as session:
            add(session, QUICK)
        with Session(deployment) as other:
            other.add(odd)
            other.commit()
            of_amount = other.sum(Loose.query().full_scan().where(Loose.state != "none"), Loose.amount)
        with Session(deployment) as session:
            everything = Sale.query().full_scan()
            total, counted = session.read(everything.sum(Sale.amount), everything.group_by(Sale.paid).count())
            assert total == of_amount
            assert counted == [(False, 34), (True, 17)]
    assert folded


@pytest.mark.parametrize("body", [None, '{"state":"x"},{"state":"x"}', b'{"state":"\xff"}'])
def test_a_row_that_is_no_document_is_refused(body: object, tmp_path: Path) -> None:
    with connect(f"sqlite:///{tmp_path / 'file.db'}") as deployment, Session(deployment) as session:
        add(session, QUICK)
        with sqlite3.connect(tmp_path / "file.db") as raw:
            raw.execute("UPDATE t1 SET body = CAST(? AS TEXT) WHERE tick = (SELECT max(tick) FROM t1)", (body,))
        raw.close()
        for query in (Sale.query().full_scan(), Sale.query().by_index("by_state", Sale.state > "")):
            with pytest.raises(DeploymentError, match="sales"):
                session.all(query.group_by(Sale.state).count())


def test_texts_that_are_too_long_are_found_one_by_one(folded: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        add(session, QUICK)

        def too_long(*_: object) -> Iterator[tuple[int, bytes]]:
            raise sqlite3.DataError("string or blob too big")
            yield 0, b""

        monkeypatch.setattr(folding, "_texts", too_long)
        assert session.all(Sale.query().full_scan().group_by(Sale.paid).count()) == [(False, 33), (True, 17)]
    assert folded == [False]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each text had that was parsed; texts of few rows."""
    sizes: list[int] = []
    parse = excerpts._parsed

    def counted(text: bytes, size: int, wanted: excerpts.Wanted) -> excerpts.Excerpt | None:
        sizes.append(size)
        return parse(text, size, wanted)

    monkeypatch.setattr(excerpts, "_parsed", counted)
    monkeypatch.setattr(folding, "_AT_ONCE", 20)
    excerpts.forget()
    return sizes


def test_rows_that_are_as_they_were_are_not_parsed_again(parsed: list[int]) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        add(session, QUICK)
        everything = Sale.query().full_scan()
        sums, most = everything.group_by(Sale.paid).sum(Sale.n), everything.group_by(Sale.paid).max(Sale.n)
        before = session.all(sums)
        assert parsed == [20, 20, 10]
        assert session.all(sums) == before
        assert session.all(most) == [(False, 4), (True, 4)]
        assert parsed == [20, 20, 10]
        session.all(everything)[25].n += 100
        session.commit()
        assert sum(n for _, n in session.all(sums)) == sum(n for _, n in before) + 100
        assert parsed == [20, 20, 10, 20]
        session.add(Sale(state="x", n=1_000))
        session.commit()
        assert sum(n for _, n in session.all(sums)) == sum(n for _, n in before) + 1_100
        assert parsed == [20, 20, 10, 20, 11]


def test_what_was_kept_is_not_changed_by_what_is_made_of_it(parsed: list[int]) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        add(session, QUICK)
        answers = {repr(session.read(one)) for _ in range(3) for one in [Sale.query().full_scan().sum(Sale.n)]}
        assert len(answers) == 1
        grouped = Sale.query().full_scan().group_by(Sale.paid).sum(Sale.amount)
        assert len({repr(session.read(grouped)) for _ in range(3)}) == 1


def test_groups_of_few_rows_are_not_kept(parsed: list[int]) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        session.add_all([Sale(state=str(n), n=n) for n in range(20)])
        session.commit()
        for _ in range(2):
            assert len(session.all(Sale.query().full_scan().group_by(Sale.state).sum(Sale.n))) == 20
    assert parsed == [20, 20]
