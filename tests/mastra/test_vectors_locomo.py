"""Real conversations as vectors: the same turns in the same order from every deployment and from float64 brute force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.conversations import Conversation, conversation
from bench.embedding import Embedding, questions
from convexorm import Deployment
from mastra_convex import ConvexVector

TOP = 10
ASKED = 60
"""Questions of a conversation that are asked of a host, which takes some milliseconds for each."""


def texts(given: Conversation) -> list[str]:
    return [" ".join(part["text"] for part in turn["content"]["parts"]) for turn in given.turns]


def brute(rows: Any, query: Any) -> list[tuple[int, float]]:
    """Positions and scores by the textbook; scores equal to the last bits keep the order of the rows."""
    scores = np.round(rows @ query / (np.linalg.norm(rows, axis=1) * np.linalg.norm(query)), 13)
    return [(int(place), float(scores[place])) for place in np.argsort(-scores, kind="stable")[:TOP]]


@pytest.mark.parametrize("name", ["26", "30"])
@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_turns_are_found_in_the_order_of_brute_force(
    deployment: Deployment, locomo: Path, unique: str, name: str, precision: Any
) -> None:
    given = conversation(locomo / f"{name}.json")
    turns = [turn["content"]["metadata"] for turn in given.turns]
    embed = Embedding(texts(given))
    rows = embed(texts(given)).astype(precision)
    store = ConvexVector(id="locomo", deployment=deployment)
    store.create_index(index_name=unique, dimension=rows.shape[1])
    store.upsert(index_name=unique, vectors=rows, ids=[turn["turn"] for turn in turns], metadata=turns)

    asked = questions(locomo / f"{name}.json")
    assert len(asked) > 200
    step = max(1, len(asked) // ASKED)
    exact, found = rows.astype(np.float64), 0
    for question, query in zip(asked[::step], embed([one.text for one in asked[::step]]), strict=True):
        results = store.query(index_name=unique, query_vector=query, top_k=TOP)
        expected = brute(exact, query)
        assert [one.id for one in results] == [turns[place]["turn"] for place, _ in expected]
        assert [one.score for one in results] == pytest.approx([score for _, score in expected], abs=1e-6)
        found += bool(question.turns & {one.id for one in results})
    assert found > len(asked[::step]) / 3  # hashed n-grams find something of what they are asked for

    speaker = turns[0]["speaker"]
    of_speaker = [place for place, turn in enumerate(turns) if turn["speaker"] == speaker]
    query = embed([asked[0].text])[0]
    results = store.query(index_name=unique, query_vector=query, top_k=TOP, filter={"speaker": speaker})
    expected = [(of_speaker[place], score) for place, score in brute(exact[of_speaker], query)]
    assert [one.id for one in results] == [turns[place]["turn"] for place, _ in expected]
