"""`python -m convexorm schema` and `python -m convexorm functions`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from convexorm.__main__ import main, models_of
from tests.conftest import ROOT
from tests.models import MODELS

SCHEMA = ROOT / "tests" / "functions" / "schema.ts"


def test_the_schema_of_the_tests_says_what_their_models_say() -> None:
    assert main(["schema", "tests.models", "--out", str(SCHEMA), "--check"]) == 0


def test_schema_writes_to_a_file_or_to_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "tests.models"]) == 0
    assert capsys.readouterr().out == SCHEMA.read_text(encoding="utf-8")
    assert main(["schema", "tests.models", "--out", str(tmp_path / "schema.ts")]) == 0
    assert (tmp_path / "schema.ts").read_text(encoding="utf-8") == SCHEMA.read_text(encoding="utf-8")


def test_check_fails_with_the_difference_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "schema.ts"
    assert main(["schema", "tests.models", "--out", str(out), "--check"]) == 1
    assert not out.exists()
    changed = SCHEMA.read_text(encoding="utf-8").replace("rank: v.optional(v.number())", "rank: v.number()")
    out.write_text(changed, encoding="utf-8")
    capsys.readouterr()
    assert main(["schema", "tests.models", "--out", str(out), "--check"]) == 1
    told = capsys.readouterr().err
    assert "-    rank: v.number()," in told
    assert "+    rank: v.optional(v.number())," in told
    assert out.read_text(encoding="utf-8") == changed


def test_tables_can_be_renamed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "tests.models", "--rename", "tasks=jobs"]) == 0
    told = capsys.readouterr().out
    assert "  jobs: defineTable({" in told
    assert "  tasks: defineTable({" not in told


@pytest.mark.parametrize(
    "arguments",
    [
        ["schema", "tests.no_such_module"],
        ["schema", "tests"],
        ["schema", "tests.models", "--check"],
        ["schema", "tests.models", "--rename", "tasks"],
        ["schema", "tests.models", "--rename", "tasks=not a name"],
        ["schema", "tests.models", "--rename", "tasks=notes"],
        ["schema", "tests.models", "--out", "/no/such/folder/schema.ts"],
    ],
    ids=["no module", "no models", "nothing to check", "half a name", "a bad name", "a name that is taken", "no folder"],
)
def test_a_mistake_is_told_in_a_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status: object = main(arguments)
    except SystemExit as stop:
        status = stop.code
    assert status in (1, 2)
    told = capsys.readouterr().err.strip()
    assert told
    assert "Traceback" not in told


def test_models_are_found_in_a_module_in_its_order() -> None:
    assert tuple(models_of("tests.models")) == MODELS


def test_functions_are_copied_into_a_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # again, over the first ones
        assert main(["functions", str(tmp_path / "convex")]) == 0
    assert "npx convex deploy" in capsys.readouterr().out
    copied = {str(path.relative_to(tmp_path / "convex")) for path in (tmp_path / "convex").rglob("*.ts")}
    source = {str(path.relative_to(ROOT / "convex")) for path in (ROOT / "convex" / "orm").rglob("*.ts")}
    assert copied == source | {"orm.ts"}


def test_it_runs_as_a_module_from_a_projects_folder(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests" / "models.py", tmp_path / "my_models.py")
    done = subprocess.run(
        [sys.executable, "-m", "convexorm", "schema", "my_models"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == SCHEMA.read_text(encoding="utf-8")
