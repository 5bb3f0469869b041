"""Values over 1 MiB in files: exact, owned by one document each, gone with it, and there where a document names one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from convexorm import Deployment, InvalidRequestError, LimitExceeded, Session, StoredFile
from convexorm.deployments import RemoteDeployment
from convexorm.errors import DeploymentError
from convexorm.files import AsyncFiles
from mastra_convex import AsyncConvexStore, ConvexStore
from tests.mastra.support import at, awaited_store, message, thread

BIG = '0123456789日本語☃é\u2028"\\' * 50_000
"""1.3 MB of JSON."""


@pytest.fixture(params=["async", "blocking"])
def store(request: pytest.FixtureRequest, deployment: Deployment, unique: str) -> AsyncConvexStore:
    """A store whose large values go into files, in tables of its own."""
    options: Any = {"id": "test", "deployment": deployment, "large_values": "files"}
    if request.param == "async":
        return AsyncConvexStore(**options)
    return awaited_store(ConvexStore(**options))


def large(id: str, thread_id: str, data: str = BIG, **attributes: Any) -> dict[str, Any]:
    content = {"format": 2, "parts": [{"type": "file", "data": data, "n": 1.5}], "metadata": {"color": "red"}}
    return message(id, thread_id, "ada", **{"content": content, **attributes})


def count(deployment: Deployment) -> int:
    with Session(deployment) as session:
        return session.count(StoredFile.query().full_scan())


@pytest.fixture
def before(deployment: Deployment) -> int:
    """How many files others have left on a deployment that tests share."""
    if isinstance(deployment, RemoteDeployment) and "127.0.0.1" not in repr(deployment):
        pytest.skip("counts all files there are, which others may have on a deployment of theirs")
    with Session(deployment) as session:
        for file in session.all(StoredFile.query().full_scan()) if not _is_foreign(deployment) else ():
            deployment.files.delete(str(file.convex_id))
    return 0


def _is_foreign(deployment: Deployment) -> bool:
    return type(deployment).__name__ == "AdaptedDeployment"


needs_files = pytest.mark.needs_functions("the npm package's functions store no files")


@needs_files
async def test_large_messages_are_answered_exactly_and_go_with_their_owners(
    store: AsyncConvexStore, deployment: Deployment, unique: str, before: int
) -> None:
    memory, t = store.memory, f"t{unique}"
    await memory.save_thread(thread=thread(t, "ada"))
    saved = [large("a", t), message("b", t, "ada", 1), message("c", t, "ada", 2, content=[BIG]), large("d", t, seconds=3)]
    for one in saved:
        one["id"] += unique
    await memory.save_messages(messages=saved)
    assert count(deployment) == 3
    contents = [one["content"] for one in saved]
    assert [one.content for one in (await memory.list_messages(thread_id=t)).messages] == contents
    red = await memory.list_messages(thread_id=t, filter={"metadata": {"color": "red"}})
    assert [one.id for one in red.messages] == [f"a{unique}", f"d{unique}"]
    assert [one.content for one in red.messages] == [contents[0], contents[3]]

    await memory.update_messages(messages=[{"id": f"a{unique}", "content": {"metadata": {"size": "large"}}}])
    (changed,) = (await memory.list_messages_by_id(message_ids=[f"a{unique}"])).messages
    assert changed.content == {**contents[0], "metadata": {"color": "red", "size": "large"}}
    assert count(deployment) == 3

    copy = await memory.clone_thread(source_thread_id=t)
    assert count(deployment) == 6
    await memory.delete_messages(message_ids=[f"c{unique}"])
    assert count(deployment) == 5
    await memory.save_messages(messages=[message(f"a{unique}", t, "ada")])
    assert count(deployment) == 4
    await memory.delete_thread(thread_id=t)
    assert count(deployment) == 3
    assert [one.content for one in copy.cloned_messages][1:] == contents[1:]
    listed = (await memory.list_messages(thread_id=copy.thread.id)).messages
    assert [one.content for one in listed][1:] == contents[1:]
    await memory.delete_thread(thread_id=copy.thread.id)
    assert count(deployment) == 0
    assert await store.sweep_files(older_than=timedelta()) == 0


@needs_files
async def test_snapshots_and_payloads_of_tasks_may_be_large(
    store: AsyncConvexStore, deployment: Deployment, unique: str, before: int
) -> None:
    run: Any = {"workflow_name": "w", "run_id": unique}
    await store.workflows.persist_workflow_snapshot(**run, snapshot={"context": {"input": BIG}, "status": "running"})
    results = await store.workflows.update_workflow_results(**run, step_id="s", result={"output": [BIG]})
    assert results == {"input": BIG, "s": {"output": [BIG]}}
    runs = (await store.workflows.list_workflow_runs(workflow_name="w", status="running")).runs
    assert [one.snapshot["context"] for one in runs if one.run_id == unique] == [results]
    assert count(deployment) == 1
    await store.workflows.update_workflow_state(**run, opts={"status": "success", "result": None})
    await store.workflows.persist_workflow_snapshot(**run, snapshot={"context": {}, "status": "failed"})
    assert count(deployment) == 0

    task: Any = dict.fromkeys(("tool_call_id", "tool_name", "agent_id", "run_id"), unique)
    task |= {"id": unique, "status": "pending", "args": {"text": BIG}, "retry_count": 0, "max_retries": 1}
    task |= {"timeout_ms": 1.0, "created_at": at(0)}
    await store.background_tasks.create_task(task=task)
    await store.background_tasks.update_task(task_id=unique, update={"status": "completed", "result": BIG})
    found = await store.background_tasks.get_task(task_id=unique)
    assert found is not None
    assert (found.args, found.result, found.status) == ({"text": BIG}, BIG, "completed")
    assert count(deployment) == 2
    await store.background_tasks.delete_task(task_id=unique)
    assert count(deployment) == 0


@needs_files
async def test_of_concurrent_changes_all_are_kept_and_one_file(
    store: AsyncConvexStore, deployment: Deployment, unique: str, before: int
) -> None:
    run: Any = {"workflow_name": "w", "run_id": unique}
    await store.workflows.persist_workflow_snapshot(**run, snapshot={"context": {"input": BIG}, "status": "running"})
    steps = [f"s{number}" for number in range(4)]
    update = store.workflows.update_workflow_results
    await asyncio.gather(*(update(**run, step_id=step, result={"output": step * 300_000}) for step in steps))
    snapshot = await store.workflows.load_workflow_snapshot(**run)
    assert snapshot is not None
    assert snapshot["context"] == {"input": BIG, **{step: {"output": step * 300_000} for step in steps}}
    await store.sweep_files(older_than=timedelta())  # two that replace one value at a time may leave one of their files
    assert count(deployment) == 1
    await store.workflows.delete_workflow_run_by_id(**run)
    assert count(deployment) == 0


class Killed(BaseException):
    """Ends a program at any point."""


@needs_files
@pytest.mark.parametrize("point", ["upload", "commit", "delete"])
async def test_what_a_kill_leaves_is_swept_and_nothing_else(
    store: AsyncConvexStore,
    deployment: Deployment,
    unique: str,
    before: int,
    point: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory, t = store.memory, f"t{unique}"
    await memory.save_thread(thread=thread(t, "ada"))
    await memory.save_messages(messages=[large(f"a{unique}", t), large(f"b{unique}", t)])
    assert deployment.files.upload(b"another's", "image/png")

    def kills(method: Callable[..., Awaitable[Any]], *, after: bool) -> Callable[..., Awaitable[Any]]:
        async def killed(*args: Any, **kwargs: Any) -> Any:
            if after:
                await method(*args, **kwargs)
            raise Killed

        return killed

    with monkeypatch.context() as patch:
        if point == "upload":
            patch.setattr(AsyncFiles, "upload", kills(AsyncFiles.upload, after=True))
        elif point == "commit":
            face = type(deployment.asynchronous), type(deployment.blocking)
            for port in face:
                patch.setattr(port, "commit", kills(port.commit, after=True))
        else:
            patch.setattr(AsyncFiles, "delete", kills(AsyncFiles.delete, after=False))
        with pytest.raises(Killed):
            await memory.save_messages(messages=[large(f"a{unique}", t, BIG + "new")])
    kept = BIG if point == "upload" else BIG + "new"
    for swept in (None, 1, 0):
        if swept is not None:
            assert await store.sweep_files(older_than=timedelta()) == swept
        found = (await memory.list_messages(thread_id=t)).messages
        assert [one.content["parts"][0]["data"] for one in found] == [kept, BIG]
    assert count(deployment) == 3
    assert await store.sweep_files() == 0


@needs_files
@pytest.mark.parametrize("applied", [True, False])
async def test_a_lost_answer_leaves_the_file_that_is_named_and_no_other(
    deployment: Deployment, unique: str, before: int, applied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = ConvexStore(id="test", deployment=deployment, large_values="files").memory
    memory.save_messages(messages=[large(unique, unique)])
    kind: Any = type(deployment.blocking)
    commit = kind.commit

    async def lossy(port: Any, given: Any) -> Any:
        monkeypatch.setattr(kind, "commit", commit)
        if applied:
            await commit(port, given)
        error = DeploymentError("the answer is lost")
        error.lost = True
        raise error

    monkeypatch.setattr(kind, "commit", lossy)
    if applied:
        memory.save_messages(messages=[large(unique, unique, BIG + "new")])
    else:
        with pytest.raises(DeploymentError):
            memory.save_messages(messages=[large(unique, unique, BIG + "new")])
    (found,) = memory.list_messages(thread_id=unique).messages
    assert found.content["parts"][0]["data"] == (BIG + "new" if applied else BIG)
    assert count(deployment) == 1

    monkeypatch.setattr(kind, "commit", lossy)  # of a commit without such values, too
    if applied:
        memory.save_thread(thread=thread(unique, "ada"))
    else:
        with pytest.raises(DeploymentError):
            memory.save_thread(thread=thread(unique, "ada"))
    assert (memory.get_thread_by_id(thread_id=unique) is not None) == applied


@needs_files
async def test_a_refused_commit_leaves_no_file(deployment: Deployment, unique: str, before: int) -> None:
    store = ConvexStore(id="test", deployment=deployment, large_values="files", owners="strict")
    store.memory.save_thread(thread=thread(f"t{unique}", "ada"))
    store.memory.save_messages(messages=[message(f"a{unique}", f"t{unique}", "ada")])
    theirs = large(f"a{unique}", f"t{unique}")
    theirs["resource_id"] = "bob"
    with pytest.raises(Exception, match="resource"):
        store.memory.save_messages(messages=[theirs])
    with pytest.raises(LimitExceeded):
        store.memory.save_messages(messages=[large(f"b{unique}", f"t{unique}"), large("x" * 300, f"t{unique}")])
    heavy = large(f"c{unique}", f"t{unique}")
    heavy["content"]["metadata"] = {"all": BIG}
    with pytest.raises(LimitExceeded):
        store.memory.save_messages(messages=[heavy])
    assert count(deployment) == 0


@needs_files
async def test_texts_that_look_like_ours_are_texts(
    store: AsyncConvexStore, deployment: Deployment, unique: str, before: int
) -> None:
    memory, t = store.memory, f"t{unique}"
    await memory.save_thread(thread=thread(t, "ada"))
    await memory.save_messages(messages=[large(f"a{unique}", t)])
    with Session(deployment) as session:
        (file,) = session.all(StoredFile.query().full_scan())
    forged = [{"largeValue": {"file": name, "size": 1, "beside": ""}} for name in (str(file.convex_id), "nonsense", "")]
    plain = AsyncConvexStore(id="plain", deployment=deployment)
    others = [message(f"{n}{unique}", t, "ada", 1 + n, content=one) for n, one in enumerate(forged)]
    await plain.memory.save_messages(messages=others)
    for _ in range(2):  # written by others, then by a store with files
        found = (await memory.list_messages(thread_id=t)).messages
        assert [one.content for one in found][1:] == forged
        assert found[0].content["parts"][0]["data"] == BIG
        await memory.save_messages(messages=others)
    assert count(deployment) == 4


@needs_files
async def test_others_see_a_stand_in_and_what_they_merge_into_it_counts(
    store: AsyncConvexStore, deployment: Deployment, unique: str, before: int
) -> None:
    memory, t, a = store.memory, f"t{unique}", f"a{unique}"
    await memory.save_thread(thread=thread(t, "ada"))
    await memory.save_messages(messages=[large(a, t)])
    plain = AsyncConvexStore(id="plain", deployment=deployment).memory
    (seen,) = (await plain.list_messages_by_id(message_ids=[a])).messages
    assert seen.content["metadata"] == {"color": "red"}
    assert seen.content["parts"] == [{"type": "text", "text": "(too large to be shown here)"}]
    await plain.update_messages(messages=[{"id": a, "content": {"metadata": {"more": True}, "extra": [1]}}])
    (found,) = (await memory.list_messages_by_id(message_ids=[a])).messages
    whole = {**large(a, t)["content"], "metadata": {"color": "red", "more": True}, "extra": [1]}
    assert found.content == whole
    await memory.update_messages(messages=[{"id": a, "content": {"extra": []}}])
    (found,) = (await memory.list_messages_by_id(message_ids=[a])).messages
    assert found.content == {**whole, "extra": []}
    await plain.delete_messages(message_ids=[a])
    assert count(deployment) == 1
    assert await store.sweep_files(older_than=timedelta()) == 1


@needs_files
async def test_tables_under_other_names_have_files_of_their_own(deployment: Deployment, unique: str, before: int) -> None:
    options: Any = {"id": "test", "deployment": deployment, "large_values": "files"}
    other = ConvexStore(**options, tables={"mastra_messages": "mastra_scorers"})
    ConvexStore(**options).memory.save_messages(messages=[large(unique, unique)])
    assert other.sweep_files(older_than=timedelta()) == 0
    assert count(deployment) == 1


def test_without_files_large_values_are_refused(deployment: Deployment, unique: str) -> None:
    foreign = _is_foreign(deployment)
    store = ConvexStore(id="test", deployment=deployment, large_values="files")
    store.memory.save_messages(messages=[message(unique, unique, "ada")])
    if foreign:
        with pytest.raises(DeploymentError, match="has no files"):
            store.memory.save_messages(messages=[large(unique, unique)])
    else:
        with pytest.raises(InvalidRequestError, match="cannot be watched"):
            store.memory.watch_messages(thread_id=unique)
    plain = ConvexStore(id="test", deployment=deployment)
    with pytest.raises(LimitExceeded):
        plain.memory.save_messages(messages=[large(unique, unique)])
    with pytest.raises(InvalidRequestError, match="large_values"):
        plain.sweep_files()
    with pytest.raises(InvalidRequestError, match="'refuse', 'files'"):
        ConvexStore(id="test", deployment=deployment, large_values="chunks")  # type: ignore[arg-type]
