/**
 * Schedules and their triggers. A fire is claimed by comparing and setting its time in one mutation, so one claim of many wins.
 */
import type { Edge } from "../../orm/protocol";
import { invalid, refusal } from "./errors";
import { only, type Context, type Operation, type Operations } from "./operation";
import { idOf, SCHEDULES, TRIGGERS } from "./places";
import { numberIn, objectIn, optionalCountIn, optionalNumberIn, textIn, type Request } from "./request";

/** Stores a record whose id is new, after `prepare`. */
function create(what: string, prepare?: (context: Context, id: string) => Promise<void>): Operation {
  return async (context, request) => {
    const { records, place } = context;
    const record = objectIn(request, "record");
    const key = place.keyOfRecord(record);
    if ((await records.find(place, key)) !== null) {
      throw refusal("Exists", `${what} with id "${String(record["id"])}" already exists.`, { id: record["id"]! });
    }
    records.require(place.table, place.documentOf(record, null));
    await prepare?.(context, idOf(record));
    await records.insert(place.table, place.documentOf(record, null));
    return {};
  };
}

const limitIn = (request: Request) => {
  const limit = optionalCountIn(request, "limit");
  return limit === undefined ? {} : { limit };
};

const schedule = async ({ records, place }: Context, request: Request) =>
  await records.find(place, place.keyOf(textIn(request, "id")));

export const schedules: Operations = only(SCHEDULES, {
  /** The history of a new schedule is its own: what another one with its id has left goes in the same mutation. */
  createSchedule: create("Schedule", async ({ records }, scheduleId) => {
    while (await records.deleteSome(ofSchedule(TRIGGERS, { scheduleId })));
  }),

  /** The active schedules whose time has come, the longest due first. */
  async listDueSchedules({ records, place }, request) {
    const upper: Edge = { value: [numberIn(request, "now")], inclusive: true };
    const span = { table: place.table, index: "by_status_next_fire_at", eq: [["active"] as ["active"]], upper };
    return { result: (await records.all({ ...span, ...limitIn(request) })).map((each) => place.recordOf(each)) };
  },

  async updateScheduleNextFire(context, request) {
    const [expected, next] = [numberIn(request, "expectedNextFireAt"), numberIn(request, "newNextFireAt")];
    // A fire that is over must be another time than the next one, or whoever still expects it claims it again.
    if (next <= expected) throw invalid("newNextFireAt", "later than expectedNextFireAt");
    const old = await schedule(context, request);
    const isClaimable = old?.["status"] === "active" && old["next_fire_at"] === expected;
    if (!old || !isClaimable) return { result: false };
    const { records, place } = context;
    const changes = {
      next_fire_at: next,
      last_fire_at: numberIn(request, "lastFireAt"),
      last_run_id: textIn(request, "lastRunId"),
      updated_at: Date.now(),
    };
    await records.replace(place.table, old, place.changed(old, changes));
    return { result: true };
  },

  async updateSchedule(context, request) {
    const { records, place } = context;
    const old = await schedule(context, request);
    if (old === null) {
      throw refusal("NotFound", `Schedule ${textIn(request, "id")} not found`, { id: textIn(request, "id") });
    }
    const fields = place.changed(old, objectIn(request, "patch"));
    await records.replace(place.table, old, fields);
    return { result: place.recordOf(fields) };
  },
});

export const triggers: Operations = only(TRIGGERS, {
  recordScheduleTrigger: create("Schedule trigger"),

  /** The triggers of a schedule, newest first, from a time on and before another. */
  async listScheduleTriggers({ records, place }, request) {
    const [from, to] = [optionalNumberIn(request, "fromActualFireAt"), optionalNumberIn(request, "toActualFireAt")];
    const found = await records.all({
      ...ofSchedule(place.table, request),
      ...(from === undefined ? {} : { lower: { value: [from] as [number], inclusive: true } }),
      ...(to === undefined ? {} : { upper: { value: [to] as [number], inclusive: false } }),
      order: "desc",
      ...limitIn(request),
    });
    return { result: found.map((each) => place.recordOf(each)) };
  },

  async deleteScheduleTriggers({ records, place }, request) {
    return { hasMore: await records.deleteSome(ofSchedule(place.table, request)) };
  },
});

const ofSchedule = (table: string, request: Request) => ({
  table,
  index: "by_schedule_actual",
  eq: [[textIn(request, "scheduleId")] as [string]],
});
