"""The functions in somebody's project: theirs stays theirs, and what is ours is known."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from convexorm import Index, Mapped, Model, Session, field
from convexorm.__main__ import main
from tests.conftest import ROOT, serve_host

APP = ROOT / "examples" / "app"
LINES = ['import { ormTables } from "./orm/tables";', "...ormTables,"]


class Channel(Model, table="channels"):
    name: Mapped[str]
    topic: Mapped[str | None] = field(default=None, none="null")
    members: Mapped[list[str]]
    by_name = Index("name")


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The app, as a project of its own that has the package `convex`."""
    folder = tmp_path / "chat"
    shutil.copytree(APP, folder)
    (folder / "node_modules").symlink_to(ROOT / "node_modules")
    monkeypatch.chdir(folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "node_modules" not in path.parts
    }


def test_an_app_gets_the_functions_and_is_told_the_two_lines(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(app)
    assert main(["init", "--check"]) == 1
    assert "orm.ts is missing" in capsys.readouterr().err
    assert main(["init"]) == 0
    told = capsys.readouterr().out
    assert [line.strip() for line in told.splitlines() if line.startswith("    ")] == LINES
    after = contents(app)
    assert {name: after[name] for name in before} == before
    assert all(name == "convex/orm.ts" or name.startswith("convex/orm/") for name in after.keys() - before.keys())
    schema = app / "convex" / "schema.ts"
    text = schema.read_text().replace(
        "export default defineSchema({", f"{LINES[0]}\n\nexport default defineSchema({{\n  {LINES[1]}"
    )
    schema.write_text(text)
    assert main(["init", "--check"]) == 0
    assert main(["init", "--convex", "convex"]) == 0
    assert "add to" not in capsys.readouterr().out
    for host in serve_host(app / "convex"):
        with host.connect() as deployment, Session(deployment) as session:
            session.add(Channel(name="general", members=[]))
            session.commit()
            assert [one.name for one in session.all(Channel.query().by_index("by_name", name="general"))] == ["general"]


def test_an_upgrade_leaves_what_was_edited_and_says_so(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--mastra"]) == 0
    assert "mastraTables" in capsys.readouterr().out
    assert (app / "convex" / "mastra" / "storage.ts").is_file()
    edited, old = app / "convex" / "orm" / "ledger.ts", app / "convex" / "orm" / "range.ts"
    edited.write_text(edited.read_text() + "// ours now\n")
    from convexorm.projects.files import body_of, stamped

    body = body_of(old.read_text())
    assert body is not None
    old.write_text(stamped("Copied by `python -m convexorm functions` of convexorm 0.0.1; run it again.", body + "\n"))
    mine = contents(app)
    assert main(["init", "--check"]) == 1
    told = capsys.readouterr().err
    assert "ledger.ts was edited" in told
    assert "range.ts is of another version" in told
    assert main(["init"]) == 1
    assert "was edited since it was written" in capsys.readouterr().err
    assert contents(app) == mine
    assert main(["init", "--upgrade"]) == 0
    told = capsys.readouterr().out
    assert "ledger.ts as it is: it was edited" in told
    assert "wrote" in told
    assert edited.read_text().endswith("// ours now\n")
    assert "0.0.1" not in old.read_text()
    assert main(["init", "--force"]) == 0
    assert "// ours now" not in edited.read_text()


def test_a_file_of_theirs_is_never_touched(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (app / "convex" / "orm.ts").write_text("export const mine = 1;\n")
    before = contents(app)
    for command in (["init"], ["init", "--upgrade"]):
        assert main(command) == 1
        assert "was not written by this command" in capsys.readouterr().err
        assert contents(app) == before


@pytest.mark.parametrize("command", [["init"], ["reflect", "--out", "models.py"]])
def test_a_folder_that_is_no_project_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command) == 1
    assert "no Convex project" in capsys.readouterr().err
    assert main([*command, "--convex", "nowhere"]) == 1
    assert "nowhere is no folder" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "convex.json").write_text('{"functions": "backend"}')
    assert main([*command, "--convex", "."]) == 1
    assert "names 'backend' for the functions, and it is no folder" in capsys.readouterr().err
    (tmp_path / "convex.json").write_text("{")
    assert main([*command, "--convex", "."]) == 1
    assert "is no JSON" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["convex.json", "other"]


def test_the_folder_of_functions_may_have_another_name(app: Path) -> None:
    (app / "convex").rename(app / "backend")
    (app / "convex.json").write_text('{"functions": "backend"}')
    assert main(["init"]) == 0
    assert (app / "backend" / "orm.ts").is_file()


def test_a_module_of_models_is_written_checked_and_kept(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reflect", "--out", "models.py"]) == 0
    text = Path("models.py").read_text()
    assert text.splitlines()[0].startswith("# Generated by `python -m convexorm reflect`")
    assert main(["reflect", "--out", "models.py", "--check"]) == 0
    assert main(["reflect", "--out", "models.py"]) == 0
    assert "as it should be" in capsys.readouterr().out
    assert main(["reflect", "--out", "models.py", "--tables", "users,channels", "--check"]) == 1
    assert "does not say what the schema says" in capsys.readouterr().err
    assert main(["reflect", "--out", "some.py", "--tables", "users"]) == 0
    assert "class Channel" not in Path("some.py").read_text()
    assert main(["reflect", "--out", "one.py", "--tables", "messages"]) == 0
    one = Path("one.py").read_text()
    assert '    # v.id("channels")\n    channel: Mapped[str]\n' in one
    exec(compile(one, "one.py", "exec", dont_inherit=True), {"__name__": __name__})
    assert main(["reflect", "--out", "none.py", "--tables", "nobody"]) == 1
    assert "the schema has no table 'nobody'" in capsys.readouterr().err
    Path("models.py").write_text(text + "\n\nmine = 1\n")
    assert main(["reflect", "--out", "models.py"]) == 1
    assert "was edited" in capsys.readouterr().err
    Path("theirs.py").write_text("mine = 1\n")
    assert main(["reflect", "--out", "theirs.py"]) == 1
    assert Path("theirs.py").read_text() == "mine = 1\n"


def test_the_tables_of_models_are_written_to_be_spread(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "tests.models", "--fragment", "appTables", "--out", "convex/app.ts"]) == 0
    text = Path("convex/app.ts").read_text()
    assert "export const appTables = {" in text
    assert "defineSchema" not in text
    assert "convexorm_commits" not in text
    capsys.readouterr()
    assert main(["schema", "tests.models", "--fragment"]) == 0
    assert "export const tables = {" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["schema", "tests.models", "--fragment", "no name"])
