"""Vectors beside numpy, faiss, bare SQLite and the npm package: what exact search costs, embedded and on the local host.

Sides take turns and medians are compared. The matrix is random, 100,000 rows of 384 float32, with one whole number as
metadata. What is measured of memory is measured in a process of its own.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.conversations import FOLDER, conversation
from bench.embedding import Embedding, questions
from bench.tables import interleaved, print_table, seconds
from mastra_convex import ConvexVector
from tests.conftest import ROOT, node, serve_host

SIZE, DIMENSION, TOP = int(os.environ.get("BENCH_VECTORS", "100000")), 384, 10
HOST_SIZE, NPM_BYTES = 1_000, 7_883_675
"""The npm client's answer for 1,000 vectors, in bytes."""
BATCH = 1_900


def rows_of(size: int) -> Any:
    return np.random.default_rng(0).standard_normal((size, DIMENSION), dtype=np.float32)


def row(case: str, measured: float, most: float, unit: str = "x") -> list[str]:
    figure = f"{measured:,.2f} {unit}" if unit == "x" else f"{measured:,.0f} {unit}"
    bound = f"{most:,.2f} {unit}" if unit == "x" else f"{most:,.0f} {unit}"
    return [case, figure, bound, "yes" if measured <= most else "no"]


# -- embedded ------------------------------------------------------------------------------------------------------


def blobs(rows: Any, path: Path) -> None:
    """The bytes of the rows in SQLite, in transactions as large as an upsert's."""
    with_journal = sqlite3.connect(path, isolation_level=None)
    with_journal.execute("PRAGMA journal_mode = WAL")
    with_journal.execute("PRAGMA synchronous = NORMAL")
    with_journal.execute("CREATE TABLE blobs (number INTEGER PRIMARY KEY, bytes BLOB)")
    for start in range(0, len(rows), BATCH):
        with_journal.execute("BEGIN")
        batch = ((place, rows[place].tobytes()) for place in range(start, min(len(rows), start + BATCH)))
        with_journal.executemany("INSERT INTO blobs VALUES (?, ?)", batch)
        with_journal.execute("COMMIT")
    with_journal.close()


def upserted(rows: Any, path: Path) -> None:
    with ConvexVector(id="bench", deployment_url=f"sqlite:///{path}") as store:
        store.create_index(index_name="docs", dimension=DIMENSION)
        metadata = [{"part": place % 100} for place in range(len(rows))]
        store.upsert(index_name="docs", vectors=rows, ids=[f"v{place}" for place in range(len(rows))], metadata=metadata)


def first_query(path: Path, query: Any) -> None:
    with ConvexVector(id="bench", deployment_url=f"sqlite:///{path}") as store:
        store.query(index_name="docs", query_vector=query, top_k=TOP)


_MEMORY = """
import sys
import numpy as np
from bench.vectors import DIMENSION, first_query
from pathlib import Path

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

query = np.random.default_rng(1).standard_normal(DIMENSION)
np.ones((256, 256)) @ np.ones((256, 256))  # numpy's own buffers
before = peak()
first_query(Path(sys.argv[1]), query)
print(peak() - before)
"""


def memory(path: Path) -> float:
    """By how many bytes the most a process has held grows with the first query."""
    done = subprocess.run([sys.executable, "-c", _MEMORY, str(path)], cwd=ROOT, check=True, capture_output=True, text=True)
    return float(done.stdout)


def faiss_search(rows: Any, query: Any) -> Callable[[], object] | None:
    try:
        import faiss  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return None
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    index = faiss.IndexFlatIP(DIMENSION)
    index.add(rows)
    asked = query.astype(np.float32)[None]
    return lambda: index.search(asked, TOP)


def embedded(folder: Path) -> Iterator[list[str]]:
    rows = rows_of(SIZE)
    query = np.random.default_rng(1).standard_normal(DIMENSION)
    numbers = iter(range(100))

    def fresh(write: Callable[[Any, Path], None]) -> float:
        path = folder / f"written{next(numbers)}.db"
        taken = seconds(partial(write, rows, path))
        for one in folder.glob(f"{path.name}*"):
            one.unlink()
        return taken

    written = interleaved({"ours": partial(fresh, upserted), "blobs": partial(fresh, blobs)}, 3)
    path = folder / "vectors.db"
    upserted(rows, path)
    opened = interleaved(
        {
            "ours": partial(seconds, partial(first_query, path, query)),
            "bytes": partial(seconds, path.read_bytes),
        },
        7,
    )
    held = median(memory(path) for _ in range(3))

    with ConvexVector(id="bench", deployment_url=f"sqlite:///{path}") as store:
        single = query.astype(np.float32)
        sides: dict[str, Callable[[], object]] = {
            "numpy": lambda: np.argpartition(-(rows @ single), TOP)[:TOP],
            "ours": lambda: store.query(index_name="docs", query_vector=query, top_k=TOP),
            "filtered": lambda: store.query(index_name="docs", query_vector=query, top_k=TOP, filter={"part": 7}),
        }
        beside = faiss_search(rows, query)
        if beside is not None:
            sides["faiss"] = beside
        for side in sides.values():
            side()
        asked = interleaved({name: partial(seconds, side) for name, side in sides.items()}, 31)

    yield row(f"query {SIZE:,} x {DIMENSION}, top {TOP} / numpy", asked["ours"] / asked["numpy"], 1.5)
    if "faiss" in asked:
        yield [
            f"the same / faiss IndexFlatIP ({1000 * asked['faiss']:.1f} ms)",
            f"{asked['ours'] / asked['faiss']:,.2f} x",
            "",
            "",
        ]
    yield row("with a filter that keeps 1% / without", asked["filtered"] / asked["ours"], 1.0)
    yield row("open the file and answer the first query / read its bytes", opened["ours"] / opened["bytes"], 3)
    yield row("memory of that / the matrix", held / rows.nbytes, 2)
    yield row("upsert / blobs by executemany", written["ours"] / written["blobs"], 5)


# -- the local host ------------------------------------------------------------------------------------------------


_NPM = """
import { createInterface } from "node:readline";
import { ConvexVector } from "@mastra/convex";
const [deploymentUrl, adminAuthToken] = process.argv.slice(1);
const store = new ConvexVector({ id: "npm", deploymentUrl, adminAuthToken });
for await (const line of createInterface(process.stdin)) {
  const start = performance.now();
  await store.query({ indexName: "docs", queryVector: JSON.parse(line), topK: 10 });
  process.stdout.write(`${(performance.now() - start) / 1000}\\n`);
}
"""


def on_a_host() -> Iterator[list[str]]:
    rows = rows_of(HOST_SIZE)
    query = np.random.default_rng(1).standard_normal(DIMENSION)
    with contextmanager(serve_host)(ROOT / "convex") as host, host.connect() as deployment:
        writer, store = (ConvexVector(id=name, deployment=deployment) for name in ("writer", "reader"))
        writer.create_index(index_name="docs", dimension=DIMENSION)
        metadata = [{"part": place % 100} for place in range(HOST_SIZE)]
        writer.upsert(index_name="docs", vectors=rows.astype(np.float64), metadata=metadata)

        def ask() -> None:
            store.query(index_name="docs", query_vector=query, top_k=TOP)

        def counts(call: Callable[[], object]) -> dict[str, int]:
            host.reset()
            call()
            return host.metrics()

        first, second = counts(ask), counts(ask)
        described = counts(lambda: store.describe_index(index_name="docs"))
        npm = subprocess.Popen(
            [node(), "--input-type=module", "-e", _NPM, host.url, host.key],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert npm.stdin is not None
        assert npm.stdout is not None
        pipes = npm.stdin, npm.stdout

        def ask_npm() -> float:
            print(json.dumps(query.tolist()), file=pipes[0], flush=True)
            return float(pipes[1].readline())

        try:
            npm_counts = counts(ask_npm)
            taken = interleaved({"ours": partial(seconds, ask), "npm": ask_npm}, 9)
        finally:
            npm.stdin.close()
            npm.wait()
            npm.stdout.close()
    size = f"{HOST_SIZE:,} x {DIMENSION}"
    yield row(f"host, {size}: first query, bytes answered", first["responseBytes"], NPM_BYTES / 3, "B")
    yield [f"the npm client's ({1000 * taken['npm']:,.0f} ms a query)", f"{npm_counts['responseBytes']:,} B", "", ""]
    yield row("second query, bytes answered", second["responseBytes"], 4_096, "B")
    yield row(f"second query ({1000 * taken['ours']:,.1f} ms) / the npm client's", taken["ours"] / taken["npm"], 1 / 20)
    yield row("describe_index, calls", described["calls"], 1, "")
    yield row("describe_index, bytes answered", described["responseBytes"], 1_024, "B")


# -- real conversations --------------------------------------------------------------------------------------------


def recall(path: Path) -> list[str]:
    """How often a turn that a text comes from is among the ten nearest to it."""
    given = conversation(path)
    turns = [" ".join(part["text"] for part in turn["content"]["parts"]) for turn in given.turns]
    ids = [turn["content"]["metadata"]["turn"] for turn in given.turns]
    embed = Embedding(turns)
    asked = questions(path)
    with ConvexVector(id="bench", deployment_url="memory:") as store:
        store.create_index(index_name="turns", dimension=DIMENSION)
        store.upsert(index_name="turns", vectors=embed(turns), ids=ids)
        found: dict[str, list[bool]] = {}
        for question, query in zip(asked, embed([one.text for one in asked]), strict=True):
            results = store.query(index_name="turns", query_vector=query, top_k=TOP)
            found.setdefault(question.kind, []).append(bool(question.turns & {one.id for one in results}))
    cells = [f"{sum(found[kind]):,} of {len(found[kind]):,}" for kind in ("observation", "question")]
    return [" and ".join(given.speakers), f"{len(turns):,}", *cells]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        rows = list(embedded(Path(folder)))
    rows += on_a_host()
    print_table("Exact vector search", ["case", "measured", "at most", "holds"], rows)
    if FOLDER.is_dir():
        heads = [
            "conversation",
            "turns",
            "source turn of an observation in the top 10",
            "evidence of a question in the top 10",
        ]
        print_table("Hashed n-grams of real conversations", heads, [recall(path) for path in sorted(FOLDER.glob("*.json"))])
    return 0


if __name__ == "__main__":
    sys.exit(main())
