"""The app of `examples`, served as a user of the library serves it: whole, to its own clients and to ours, and kept."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import httpx2
import pytest

from convexorm import ConvexORMError, Deployment, Functions, ScheduledFunction, Session, connect
from tests.conftest import ROOT, node

KEY = "app|key"


@attrs.define
class Served:
    app: Path
    kept: Path
    process: subprocess.Popen[str] | None = None
    url: str = ""

    def start(self) -> None:
        command = [sys.executable, "-m", "convexorm", "serve", str(self.app), "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--admin-key", KEY, "--persist", str(self.kept)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        ready, self.url = self.process.stdout.readline().split()
        assert ready == "ready"

    def stop(self, signal_: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(signal_)
        status = self.process.wait(timeout=20)
        assert self.process.stdout is not None
        assert self.process.stdout.read() == ""
        self.process.stdout.close()
        return status

    def connect(self) -> Deployment:
        return connect(self.url, KEY)

    def post(self, path: str, body: Any) -> httpx2.Response:
        return httpx2.post(f"{self.url}{path}", json=body, headers={"authorization": f"Convex {KEY}"})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    node()
    folder = tmp_path_factory.mktemp("served")
    app = folder / "app"
    shutil.copytree(ROOT / "examples" / "app", app)
    (app / "node_modules").symlink_to(ROOT / "node_modules")
    subprocess.run([sys.executable, "-m", "convexorm", "init", "--convex", str(app)], check=True, capture_output=True)
    schema = app / "convex" / "schema.ts"
    text = schema.read_text().replace("defineSchema({", "defineSchema({\n  ...ormTables,", 1)
    schema.write_text(f'import {{ ormTables }} from "./orm/tables";\n{text}')
    served = Served(app, folder / "kept.db")
    served.start()
    try:
        yield served
    finally:
        if served.process is not None and served.process.poll() is None:
            served.stop(signal.SIGTERM)


def test_the_worker_works_with_the_app(served: Served) -> None:
    environment = {**os.environ, "CONVEX_URL": served.url, "CONVEX_ADMIN_KEY": KEY}
    run = subprocess.run(
        [sys.executable, str(served.app / "worker.py")], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    told = run.stdout.splitlines()
    assert told.pop(2).startswith("users: ['Ada', 'Bob'")
    assert told == [
        "latest: ['a lazy dog']",
        "topic: animals",
        "foxes: ['the quick brown fox']",
        "file: b'the quick brown fox\\na lazy dog'",
    ]


def test_the_module_of_functions_is_what_folder_and_deployment_say(served: Served) -> None:
    environment = {**os.environ, "CONVEX_ADMIN_KEY": KEY}
    told = [sys.executable, "-m", "convexorm", "api", "--models", "models", "--out"]

    def run(*options: str) -> None:
        done = subprocess.run(
            [*told, *options], cwd=served.app, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    run("api.py", "--check")
    run("asked.py", "--url", served.url)
    asked, written = ((served.app / name).read_text().splitlines()[2:] for name in ("asked.py", "api.py"))
    assert asked == written


async def test_functions_are_methods_that_answer_models(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(served.app))
    api_module, models = importlib.import_module("api"), importlib.import_module("models")
    with served.connect() as deployment:
        api = api_module.Api(deployment)
        opened = api.channels.open(name="many", members=[{"email": "mia@x", "name": "Mia"}])
        for number in range(5):
            api.messages.send(channel=opened.channel, author=opened.members[0], text=str(number))
        listed = api.messages.list(channel=opened.channel)
        assert [(type(one), one.text) for one in listed] == [(models.Message, str(n)) for n in (4, 3, 2, 1, 0)]
        assert [one.text for one in api.messages.history(channel=opened.channel, page_size=2)] == list("01234")
        shown = api.channels.show(channel=opened.channel)
        assert (type(shown.channel), shown.members[0].name) == (models.Channel, "Mia")
        assert api.internal.messages.purge(channel=opened.channel, author=opened.members[0]) == 5
        with Session(deployment) as session:
            channel = api_module.Api(deployment, session=session).channels.show(channel=opened.channel).channel
            assert session.get(models.Channel, opened.channel) is channel
        with pytest.raises(TypeError, match="limt"):
            api.messages.list(channel=opened.channel, limt=3)
        with pytest.raises(ConvexORMError):
            api_module.Api(deployment, token="a.b.c").internal.messages.forget(days=1.0)
    async with served.connect() as deployment:
        awaited = api_module.AsyncApi(deployment)
        assert await awaited.messages.list(channel=opened.channel, limit=2) == []
        author, texts = opened.members[0], ["x", "y", "z"]
        for text in texts:
            await awaited.messages.send(channel=opened.channel, author=author, text=text)
        assert [one.text async for one in awaited.messages.history(channel=opened.channel, page_size=1)] == texts


CLIENT = """
import { ConvexHttpClient } from "convex/browser";
import { api } from "./convex/_generated/api.ts";
const client = new ConvexHttpClient(process.argv[2]);
const eve = { email: "eve@x", name: "Eve" };
const { channel, members } = await client.mutation(api.channels.open, { name: "two", members: [eve] });
await client.mutation(api.messages.send, { channel, author: members[0], text: "from TypeScript" });
const failed = await client.mutation("messages:purge", { channel, author: members[0] }).catch((error) => String(error));
const texts = (await client.query(api.messages.list, { channel })).map((one) => one.text);
process.stdout.write(JSON.stringify({ channel, failed, texts }));
"""


def test_the_npm_client_and_ours_talk_to_one_app(served: Served) -> None:
    program = served.app / "client.ts"
    program.write_text(CLIENT)
    run = subprocess.run(
        [node(), "--no-warnings", str(program), served.url], cwd=served.app, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert said["texts"] == ["from TypeScript"]
    assert "Could not find public function" in said["failed"]
    with served.connect() as deployment:
        (message,) = Functions(deployment).query("messages:list", {"channel": said["channel"]})
        assert message["text"] == "from TypeScript"
        assert (
            Functions(deployment).mutation("messages:purge", {"channel": said["channel"], "author": message["author"]}) == 1
        )


def test_http_actions_and_crons_run(served: Served) -> None:
    members = [{"email": "joe@x", "name": "Joe"}]
    with served.connect() as deployment:
        opened = Functions(deployment).mutation("channels:open", {"name": "mailed", "members": members})
        letter = {"channel": "mailed", "email": "joe@x", "text": "by mail"}
        assert served.post("/http/say", letter).status_code == 201
        assert served.post("/http/say", {**letter, "email": "nobody"}).status_code == 404
        assert httpx2.get(f"{served.url}/http/say").status_code == 404
        assert served.post("/http/say", "no object").status_code in (404, 500)
        (message,) = Functions(deployment).query("messages:list", {"channel": opened["channel"]})
        assert message["text"] == "by mail"
    headers = {"authorization": f"Convex {KEY}"}
    (cron,) = httpx2.get(f"{served.url}/crons", headers=headers).json()
    assert (cron["identifier"], cron["name"], cron["runs"]) == ("forget old messages", "messages:forget", 0)
    assert served.post("/clock", {"advance": 86_400_000}).json()["crons"] == 1
    assert httpx2.get(f"{served.url}/crons", headers=headers).json()[0]["failures"] == 0


def test_what_is_kept_outlives_a_kill(served: Served) -> None:
    with served.connect() as deployment, Session(deployment) as session:
        file = deployment.files.upload(b"kept" * 100_000, "text/plain")
        scheduled = session.schedule("messages:forget", {"days": 1_000.0}, delay=timedelta(days=30))
        session.commit()
        channel = Functions(deployment).mutation("channels:open", {"name": "kept", "members": []})["channel"]
    assert served.stop(signal.SIGKILL) == -signal.SIGKILL
    served.start()
    with served.connect() as deployment, Session(deployment) as session:
        assert deployment.files.download(file) == b"kept" * 100_000
        assert session.get_one(ScheduledFunction, scheduled.id).kind == "pending"
        assert Functions(deployment).query("channels:show", {"channel": channel})["channel"]["name"] == "kept"
    assert served.post("/clock", {"advance": 31 * 86_400_000}).json()["scheduled"] >= 1
    with served.connect() as deployment, Session(deployment) as session:
        assert session.get_one(ScheduledFunction, scheduled.id).kind == "success"
    assert served.stop(signal.SIGTERM) == 0
    served.start()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no/such/folder"], "is no folder"),
        (["{tmp}"], "is no Convex project"),
        (["{tmp}/bare"], "npm install"),
        (["{app}", "--port", "70000"], "is not a port"),
        (["{app}", "--persist", "{app}/package.json"], "cannot be used"),
    ],
)
def test_what_cannot_be_served_is_one_error(served: Served, tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "bare" / "convex").mkdir(parents=True)
    (tmp_path / "bare" / "convex" / "schema.ts").write_text("export default {};")
    given = [one.format(tmp=tmp_path, app=served.app) for one in arguments]
    run = subprocess.run(
        [sys.executable, "-m", "convexorm", "serve", *given], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode != 0
    assert said in run.stderr
    assert len(run.stderr.splitlines()) == 1
