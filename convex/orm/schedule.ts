/**
 * Functions that a commit schedules, which Convex runs if and only if the commit is applied, and those it cancels.
 */
import { makeFunctionReference, type Scheduler } from "convex/server";
import type { Reader } from "./database";
import { invalid, noFunction } from "./errors";
import type { Write } from "./protocol";

export class Schedule {
  constructor(
    readonly scheduler: Scheduler,
    /** Reads `_scheduled_functions`. */
    readonly system: Reader,
  ) {}

  /** Has a function run `delay` milliseconds after the commit, or `at` a time in milliseconds since 1970; answers its id. */
  async add({ path, args, delay, at }: Write<"schedule">, position: number): Promise<string> {
    if ((delay === undefined) === (at === undefined)) throw invalid(`write ${position}`, "scheduled after a delay or at a time");
    if (delay !== undefined && delay < 0) throw invalid(`write ${position}.delay`, "0 or more");
    const reference = makeFunctionReference<"mutation">(path);
    try {
      return at === undefined
        ? await this.scheduler.runAfter(delay!, reference, args)
        : await this.scheduler.runAt(at, reference, args);
    } catch {
      throw noFunction(position, path);
    }
  }

  /** Cancels a function that has not begun; says whether it was so. */
  async cancel(id: string): Promise<boolean> {
    if (this.system.normalizeId("_scheduled_functions", id) === null) return false;
    const found = await this.system.get("_scheduled_functions", id);
    if ((found?.["state"] as { kind?: string } | undefined)?.kind !== "pending") return false;
    await this.scheduler.cancel(id as Parameters<Scheduler["cancel"]>[0]);
    return true;
  }
}
