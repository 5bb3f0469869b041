/**
 * The snapshot of a workflow run, as it is stored and as step results and state updates are merged into it.
 */
import type { Value } from "convex/values";
import { refusal } from "./errors";

export type Snapshot = Record<string, unknown> & { context: Record<string, unknown> };

type JsonObject = Record<string, unknown>;

const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** What a stored snapshot says: JSON text, or the value itself from other writers. Undefined where it is neither. */
export function parsedSnapshot(stored: Value | undefined): JsonObject | undefined {
  try {
    const found: unknown = typeof stored === "string" ? JSON.parse(stored) : structuredCopy(stored);
    return isObject(found) ? found : undefined;
  } catch {
    return undefined;
  }
}

/** The status of the run whose snapshot this is. */
export function statusOf(stored: Value | undefined): string | undefined {
  const status = parsedSnapshot(stored)?.["status"];
  return typeof status === "string" ? status : undefined;
}

const structuredCopy = (value: Value | undefined): unknown =>
  value == null ? undefined : JSON.parse(JSON.stringify(value));

/** The snapshot of a run that has not begun. */
export const emptySnapshot = (runId: string): Snapshot => ({
  context: {},
  activePaths: [],
  activeStepsPath: {},
  timestamp: Date.now(),
  suspendedPaths: {},
  resumeLabels: {},
  serializedStepGraph: [],
  value: {},
  waitingPaths: {},
  status: "pending",
  runId,
});

/** The snapshot with a step's result in its context, and with what the request context has new. */
export function withStepResult(
  snapshot: Snapshot,
  stepId: string,
  result: unknown,
  requestContext: JsonObject,
): Snapshot {
  const before = Object.hasOwn(snapshot.context, stepId) ? snapshot.context[stepId] : undefined;
  const known = snapshot["requestContext"] ?? {};
  if (!isObject(known)) {
    throw refusal("Conflict", "The stored request context of this run is no object, so nothing can be merged into it.");
  }
  return {
    ...snapshot,
    context: { ...snapshot.context, [stepId]: mergedResult(before, result) },
    requestContext: { ...known, ...requestContext },
  };
}

/** The step's result; outputs that are lists merge by position, because iterations of one step end on their own. */
function mergedResult(before: unknown, result: unknown): unknown {
  const [old, next] = [outputOf(before), outputOf(result)];
  if (old === undefined || next === undefined) return result;
  const resets = next.some(isPending);
  const length = Math.max(old.length, next.length);
  const output = Array.from({ length }, (_, at) => {
    if (at >= next.length) return old[at];
    if (at >= old.length) return resets || next[at] === undefined ? null : next[at];
    if (isPending(next[at])) return isOpen(old[at]) ? null : old[at];
    return resets || next[at] == null ? old[at] : next[at];
  });
  // A write that empties positions was made from an older snapshot: what it says of the step itself does not count.
  return { ...(before as JsonObject), ...(resets ? {} : (result as JsonObject)), output };
}

function outputOf(result: unknown): unknown[] | undefined {
  const output = isObject(result) ? result["output"] : undefined;
  return Array.isArray(output) ? output : undefined;
}

/** Exactly `{"__mastra_pending__": true}`: this position is to run again. */
const isPending = (value: unknown): boolean =>
  isObject(value) && value["__mastra_pending__"] === true && Object.keys(value).length === 1;

/** Whether a position holds no result yet, or one that is suspended; what only looks suspended is a result. */
function isOpen(value: unknown): boolean {
  if (value == null || isPending(value)) return true;
  return isObject(value) && value["status"] === "suspended" && ("suspendPayload" in value || "suspendedAt" in value);
}

/** The snapshot with new state, or undefined when it is not in one of the expected statuses. */
export function withState(snapshot: Snapshot, options: JsonObject): Snapshot | undefined {
  const { expectedStatus, ...state } = options;
  if (expectedStatus !== undefined) {
    const expected = Array.isArray(expectedStatus) ? expectedStatus : [expectedStatus];
    if (!expected.includes(snapshot["status"])) return undefined;
  }
  return { ...snapshot, ...state };
}
