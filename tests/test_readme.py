"""The README does what it says: every Python block runs, section by section, and prints what the block after it shows.
So do the pages of `docs` that teach.

A block that begins with a comment naming a file is that file. The commands of `convexorm` among the shell lines are run as
they stand. What is said of Convex runs on a local host of the folder those commands have written.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import attrs
import pytest

from tests.conftest import ADMIN_KEY, ROOT, Host, start_host, stop_host

README = (ROOT / "README.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (\S+\.py)\n")


@attrs.frozen
class Block:
    language: str
    text: str
    shown: str | None
    """What the README says it prints."""


def sections(text: str) -> Mapping[str, list[Block]]:
    """The blocks under each heading, those of output joined to the ones they belong to."""
    found: dict[str, list[Block]] = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        blocks: list[Block] = []
        for language, body in _BLOCK.findall(part):
            if language == "text":
                blocks[-1] = attrs.evolve(blocks[-1], shown=body)
            else:
                blocks.append(Block(language, body, None))
        found[part.split("\n", 1)[0]] = blocks
    return found


SECTIONS = sections(README)


def page(name: str, *, whole: bool = False, but: str | None = None) -> Mapping[str, list[Block]]:
    """The blocks of a page of `docs`, `but` those of a heading; on one that is read from its beginning they go on from each
    other.

    TypeScript is run by `tests/convex`.
    """
    found = {
        heading: [block for block in blocks if block.language != "ts"]
        for heading, blocks in sections((ROOT / "docs" / name).read_text(encoding="utf-8")).items()
        if heading != but
    }
    return {"the whole page": [block for blocks in found.values() for block in blocks]} if whole else found


PAGES = {
    "columns.md": page("columns.md"),
    "deployments.md": page("deployments.md"),
    "live.md": page("live.md", whole=True),
    "mastra.md": page("mastra.md"),
    "observing.md": page("observing.md"),
    "testing.md": page("testing.md"),
    "vectors.md": page("vectors.md"),
    "relationships.md": page("relationships.md", whole=True),
    "sessions.md": page("sessions.md", whole=True),
    "queries.md": page("queries.md", whole=True),
    "unique.md": page("unique.md", whole=True),
    "existing-app.md": page("existing-app.md", whole=True, but="In five commands"),  # which `projects/test_walk.py` does
    "files.md": page("files.md", whole=True),
    "scheduling.md": page("scheduling.md", whole=True),
}
ON_A_HOST = {("deployments.md", "On Convex"), ("testing.md", "The local host")}


def run(block: Block, namespace: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    file = _FILE.match(block.text)
    if file:
        path = Path(file.group(1))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        return
    exec(compile(block.text, "README.md", "exec"), namespace)
    if block.shown is not None:
        assert capsys.readouterr().out == block.shown


@pytest.fixture
def namespace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, object]]:
    """A fresh module in an empty folder, without a deployment in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{tmp_path}")
    for name in [name for name in os.environ if name.startswith("CONVEX_") and "TEST" not in name]:
        monkeypatch.delenv(name, raising=False)
    module = ModuleType("readme")
    monkeypatch.setitem(sys.modules, "readme", module)
    levels = {name: logging.getLogger(name).level for name in ("convexorm", "mastra_convex")}
    yield vars(module)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    for name in [name for name in sys.modules if name.split(".")[0] == "myapp"]:
        del sys.modules[name]


@pytest.mark.parametrize("title", [title for title in SECTIONS if SECTIONS[title]])
def test_a_section_does_what_it_says(title: str, namespace: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    for block in SECTIONS[title]:
        if block.language != "sh":
            run(block, namespace, capsys)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        (name, title)
        for name, found in PAGES.items()
        for title, blocks in found.items()
        if blocks and (name, title) not in ON_A_HOST
    ],
)
def test_a_section_of_a_page_does_what_it_says(
    name: str, title: str, namespace: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    for block in PAGES[name][title]:
        assert block.language == "python"
        run(block, namespace, capsys)


def test_the_commands_make_a_deployment_for_the_models_of_a_module(
    namespace: dict[str, object], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models, shell, use = PAGES["deployments.md"]["On Convex"]
    run(models, namespace, capsys)
    commands = [line.split() for line in shell.text.splitlines() if line.startswith("python -m convexorm")]
    assert len(commands) == 2
    assert shell.text in README
    for command in commands:
        subprocess.run([sys.executable, *command[1:]], check=True, capture_output=True)
    check = [sys.executable, *commands[1][1:], "--check"]
    assert subprocess.run(check, check=False).returncode == 0
    monkeypatch.setenv("NODE_PATH", str(ROOT / "node_modules"))  # a Convex project has the package `convex` itself
    process, url = start_host(Path("convex").resolve())
    try:
        monkeypatch.setenv("CONVEX_URL", url)
        monkeypatch.setenv("CONVEX_ADMIN_KEY", ADMIN_KEY)
        run(use, namespace, capsys)
    finally:
        stop_host(process)


def test_the_local_host_answers_the_lines_of_its_page(
    namespace: dict[str, object], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shared_host: Host
) -> None:
    monkeypatch.setenv("CONVEX_URL", shared_host.url)
    monkeypatch.setenv("CONVEX_ADMIN_KEY", shared_host.key)
    for block in PAGES["testing.md"]["The local host"]:
        run(block, namespace, capsys)


def test_the_errors_and_the_files_named_are_there() -> None:
    import convexorm

    (table,) = re.findall(r"^## Errors\n(.*?)^## ", README, re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`(\w+(?:Error|Found|Exceeded|Failed))`", table)) - {"ThreadNotFound"}
    assert named == {name for name in convexorm.__all__ if hasattr(getattr(convexorm, name), "with_traceback")} - {
        "ConvexORMError"
    }
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for path in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / path).exists(), (page.name, path)


def test_the_demo_runs_on_the_embedded_deployment_and_on_a_host(shared_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def demo() -> str:
        done = subprocess.run(
            [sys.executable, "examples/demo.py"], cwd=ROOT, check=True, capture_output=True, text=True, encoding="utf-8"
        )
        return done.stdout

    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    monkeypatch.delenv("CONVEX_URL", raising=False)
    assert "EmbeddedDeployment" in demo()
    monkeypatch.setenv("CONVEX_URL", shared_host.url)
    monkeypatch.setenv("CONVEX_ADMIN_KEY", shared_host.key)
    remote = demo()
    assert "RemoteDeployment" in remote
    assert "0 threads, 0 messages" in remote


def test_the_examples_have_the_types_they_show(tmp_path: Path) -> None:
    """Each section is a module of its own, right under mypy --strict; the files a section shows are packages it imports."""
    for place, blocks in enumerate(blocks for page in (SECTIONS, *PAGES.values()) for blocks in page.values()):
        examples = [block.text for block in blocks if block.language == "python"]
        for text in [text for text in examples if _FILE.match(text)]:
            path = tmp_path / str(_FILE.match(text)[1])  # type: ignore[index]
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            examples.remove(text)
        if examples:
            (tmp_path / f"section_{place}.py").write_text("\n\n".join(examples), encoding="utf-8")
    cache = ["--cache-dir", str(ROOT / ".mypy_cache" / "readme"), "--explicit-package-bases"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *cache, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
