"""Answers that come again: what is as it was is the very object from before, and nothing is read otherwise than at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from convexorm import DeploymentError
from convexorm.deployments.remote.live.answers import Answers
from convexorm.requests import Pack, Range, Read
from convexorm.values import loads_printed
from convexorm.wire import VERSION, decode_reads
from tests.models import Task

READS = (Read(Range(Task.__mapper__.table, "by_creation_time")),)
ODD = {"_id": "3", "_creationTime": 3.5, "text": '"$docs"', "n": {"$integer": "AQAAAAAAAAA="}, "docs": [1]}


def text(*docs: Any, **more: Any) -> bytes:
    result = {"docs": docs, "count": len(docs), "skipped": 0, "more": False, "next": None, **more}
    return json.dumps({"version": VERSION, "results": [result]}, separators=(",", ":")).encode()


def task(id: str, text: str) -> dict[str, Any]:
    return {"_id": id, "_creationTime": 1.0, "text": text, "large": 1e300}


def test_documents_whose_text_is_the_same_are_the_same_objects() -> None:
    answers = Answers()
    (first,) = answers.decode(text(task("1", "a"), ODD, task("2", "b")), READS)
    (second,) = answers.decode(text(ODD, task("2", "changed"), task("1", "a")), READS)
    assert second.docs[0] is first.docs[1]
    assert second.docs[1] == task("2", "changed")
    assert second.docs[2] is first.docs[0]
    (third,) = answers.decode(text(task("2", "b")), READS)
    assert third.docs[0] is not first.docs[2]  # only the last answer is kept


@pytest.mark.parametrize("answer", [text(task("1", "a"), ODD), text(), text(task("1", "x"), next=[[1.5], ["1"]])])
def test_an_answer_is_what_it_is_when_it_is_read_at_once(answer: bytes) -> None:
    answers = Answers()
    for _ in range(2):
        assert answers.decode(answer, READS) == decode_reads(loads_printed(answer), READS)


def test_documents_that_are_taken_apart_are_parsed_each_time() -> None:
    answers, reads = Answers(), (Read(READS[0].range, pack=Pack("text", 1)),)
    packed = text({"_id": "1", "_creationTime": 1.0, "text": {"$bytes": "AACAPw=="}}, rounded=False)
    for _ in range(2):
        (result,) = answers.decode(packed, reads)
        assert result.matrix is not None
        assert result.matrix.rows.tolist() == [[1.0]]


@pytest.mark.parametrize("wrong", [b"[]", b'{"results": []}', b'{"version": 1, "results": 5}', text(5), text({"x": 1})])
def test_what_is_no_answer_is_refused(wrong: bytes) -> None:
    with pytest.raises(DeploymentError):
        Answers().decode(wrong, READS)
