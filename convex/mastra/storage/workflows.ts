/**
 * Merges into the snapshot of a workflow run. A run is found by its workflow and its own id, both of which a text of the two would mix up.
 */
import type { Document, Key } from "../../orm/protocol";
import { refusal } from "./errors";
import { only, type Context, type Operations } from "./operation";
import { WORKFLOWS } from "./places";
import { jsonIn, jsonObjectIn, textIn, type Request } from "./request";
import { emptySnapshot, parsedSnapshot, withState, withStepResult, type Snapshot } from "./snapshots";

const keyIn = (request: Request): Key => ({
  index: "by_workflow_run",
  key: [[textIn(request, "workflowName")], [textIn(request, "runId")]],
});

export const workflows: Operations = only(WORKFLOWS, {
  /** Answers the JSON text of the run's context; that of no run is empty. */
  async mergeWorkflowStepResult(context, request) {
    const [stepId, result] = [textIn(request, "stepId"), jsonIn(request, "result")];
    const requestContext = jsonObjectIn(request, "requestContext");
    const run = await context.records.find(context.place, keyIn(request));
    if (run === null) return { result: "{}" };
    const snapshot = withStepResult(snapshotOf(run, textIn(request, "runId")), stepId, result, requestContext);
    await write(context, run, snapshot);
    return { result: JSON.stringify(snapshot.context) };
  },

  /** Answers the JSON text of the new snapshot, or null where there is no run, or none in an expected status. */
  async mergeWorkflowState(context, request) {
    const options = jsonObjectIn(request, "opts");
    const run = await context.records.find(context.place, keyIn(request));
    const snapshot = run && withState(snapshotOf(run, textIn(request, "runId")), options);
    if (run === null || snapshot == null) return { result: null };
    await write(context, run, snapshot);
    return { result: JSON.stringify(snapshot) };
  },
});

async function write({ records, place }: Context, run: Document, snapshot: Snapshot): Promise<void> {
  const changes = { snapshot: JSON.stringify(snapshot), updatedAt: new Date().toISOString() };
  await records.replace(place.table, run, place.changed(run, changes));
}

function snapshotOf(run: Document, runId: string): Snapshot {
  if (run["snapshot"] === null || run["snapshot"] === "") return emptySnapshot(runId);
  const snapshot = parsedSnapshot(run["snapshot"]);
  const context = snapshot?.["context"];
  if (typeof context === "object" && context !== null) return snapshot as Snapshot;
  throw refusal("Conflict", "The stored snapshot of this run has no context to merge into.", { runId });
}
