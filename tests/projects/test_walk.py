"""The walk of docs/existing-app.md, as a new user does it: from the wheel, in an environment and a project of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import copytree

import attrs
import pytest

from tests.conftest import ROOT, node

PAGE = (ROOT / "docs" / "existing-app.md").read_text(encoding="utf-8").split("\n## ")[1]
BLOCKS = dict(re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
"""The blocks of the section by language: one each."""


@attrs.frozen
class Newcomer:
    """Somebody with an app of their own, and an environment that has nothing but pip, and packages to install from."""

    app: Path
    environment: Mapping[str, str]

    def does(self, command: str, *more: str) -> str:
        done = subprocess.run(
            [*self.words(command), *more], cwd=self.app, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def begins(self, command: str, *more: str) -> subprocess.Popen[str]:
        """A command that goes on."""
        words = [*self.words(command), *more]
        return subprocess.Popen(words, cwd=self.app, env=self.environment, stdout=subprocess.PIPE, text=True)

    def words(self, command: str) -> Sequence[str]:
        """A line of a shell, its program that of the environment."""
        program, *rest = [word.strip('"') for word in command.split()]
        found = Path(self.environment["PATH"].split(os.pathsep)[0]) / program
        assert found.exists()
        return [str(found), *rest]

    def files(self) -> dict[str, str]:
        folder = self.app / "convex"
        return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """A virtual environment with nothing in it, in which pip finds the wheel; the Node of its machine is an old one."""
    node()
    folder = tmp_path_factory.mktemp("walk")
    dist, home, old = folder / "dist", folder / "venv", folder / "old"
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", str(dist), str(ROOT)], check=True)
    (wheel,) = dist.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.startswith(("tests/", "examples/", "bench/"))]
    venv.create(home, with_pip=True, symlinks=True)
    _lend_packages(home, folder / "lent")
    old.mkdir()
    (old / "node").write_text("#!/bin/sh\necho v18.0.0\nexit 9\n")
    (old / "node").chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CONVEX_", "PYTHON", "VIRTUAL_"))}
    path = os.pathsep.join([str(home / "bin"), str(old), "/usr/bin", "/bin"])
    return {**clean, "PATH": path, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(dist)}


@pytest.fixture
def newcomer(environment: Mapping[str, str], tmp_path: Path) -> Newcomer:
    app = tmp_path / "chat"
    copytree(ROOT / "examples" / "app" / "convex", app / "convex")
    (app / "package.json").write_text((ROOT / "examples" / "app" / "package.json").read_text())
    (app / "node_modules").symlink_to(ROOT / "node_modules")  # what `npm install` brings
    return Newcomer(app, environment)


def _lend_packages(home: Path, folder: Path) -> None:
    """Have an environment see the packages of this one, but for the project itself: pip need not fetch what is here."""
    folder.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not re.match(r"_*(editable|convexorm|mastra|pip\b|pip-)", entry.name) and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "lent.pth").write_text(f"{folder}\n")


def test_five_commands_lead_from_pip_to_a_typed_query_and_a_typed_call(newcomer: Newcomer) -> None:
    before = newcomer.files()
    install, init, reflect, api, serve = BLOCKS["sh"].splitlines()
    newcomer.does(install)
    assert "site-packages" in newcomer.does("python -c", "import convexorm; print(convexorm.__file__)")
    said = newcomer.does(init)
    lines = [line.strip() for line in said.splitlines() if line.startswith("    ")]
    assert len(lines) == 2
    assert all(line in BLOCKS["ts"] for line in lines)
    schema = newcomer.app / "convex" / "schema.ts"
    theirs = schema.read_text()
    schema.write_text(f"{lines[0]}\n{theirs}".replace("defineSchema({", f"defineSchema({{\n  {lines[1]}", 1))
    newcomer.does(reflect)
    newcomer.does(api)
    after = newcomer.files()
    assert {name: text for name, text in after.items() if not name.startswith("orm") and name != "schema.ts"} == {
        name: text for name, text in before.items() if name != "schema.ts"
    }
    assert [line for line in after["schema.ts"].splitlines() if line.strip() not in lines] == theirs.splitlines()

    first = newcomer.app / "first.py"
    with subprocess.Popen(
        [*newcomer.words(serve), "--port", "0"],
        cwd=newcomer.app,
        env=newcomer.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as host:
        assert host.stdout is not None
        try:
            ready, url = host.stdout.readline().split()
            assert ready == "ready"
            first.write_text(BLOCKS["py"].replace("http://127.0.0.1:3210", url))
            assert newcomer.does("python first.py") == BLOCKS["text"]
        finally:
            host.send_signal(signal.SIGTERM)
    assert host.returncode == 0

    first.write_text(
        f"{BLOCKS['py']}    reveal_type(opened.channel)\n    reveal_type(channel.name)\n    channel.name = 5\n"
    )
    cache = ["--cache-dir", str(ROOT / ".mypy_cache" / "walk"), "--python-executable", newcomer.words("python")[0]]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *cache, "first.py"],
        cwd=newcomer.app,
        env=newcomer.environment,
        capture_output=True,
        text=True,
    ).stdout
    assert 'Revealed type is "str"' in checked
    assert "Incompatible types in assignment" in checked
    assert "Found 1 error in 1 file" in checked


def test_who_forgets_the_two_lines_is_told(newcomer: Newcomer) -> None:
    install, init, *_, serve = BLOCKS["sh"].splitlines()
    newcomer.does(install)
    newcomer.does(init)
    with subprocess.Popen(
        [*newcomer.words(serve), "--port", "0"],
        cwd=newcomer.app,
        env=newcomer.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as host:
        assert host.stdout is not None
        try:
            url = host.stdout.readline().split()[1]
            program = (
                "from convexorm import *\n"
                f"with connect({url!r}, 'local|admin') as deployment, Session(deployment) as session:\n"
                "    try:\n"
                "        session.schedule('messages:forget', {'days': 1.0})\n"
                "        session.commit()\n"
                "    except DeploymentError as error:\n"
                "        print(error)\n"
            )
            assert "the lines that `python -m convexorm init` prints" in newcomer.does("python -c", program)
        finally:
            host.send_signal(signal.SIGTERM)
