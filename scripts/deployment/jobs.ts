/**
 * Scheduled functions: documents of `_scheduled_functions`, written with the mutation that schedules them, and run when they are due.
 *
 * A mutation is applied together with its success, so it is run once. An action is begun once: one in whose midst the host ended has failed.
 */
import type { JSONValue } from "convex/values";
import type { Backend } from "./backend";
import { kindOf } from "./functions";
import type { Change, Stored } from "./store";
import { END } from "./keys";
import type { Transaction } from "./transaction";

const TABLE = "_scheduled_functions";
/** The longest that Node waits for. */
const LONGEST = 2 ** 31 - 1;

export class Jobs {
  /** Milliseconds that the clock of what is due is ahead. */
  ahead = 0;
  readonly #timers = new Map<string, NodeJS.Timeout>();
  readonly #running = new Map<string, Promise<void>>();

  constructor(readonly backend: Backend) {}

  get now(): number {
    return Date.now() + this.ahead;
  }

  add(transaction: Transaction, name: string, args: JSONValue, at: number): string {
    const [module = "", exported = "default"] = name.split(":");
    const job = { name: `${module}.js:${exported}`, args: [args], scheduledTime: at, state: { kind: "pending" } };
    return transaction.enter(TABLE, job);
  }

  cancel(transaction: Transaction, id: string): void {
    const job = transaction.entered(TABLE, id);
    if (job === null) throw new Error(`There is no scheduled function ${id}`);
    if (["pending", "inProgress"].includes(stateOf(job))) {
      transaction.alter(job, { state: { kind: "canceled" }, completedTime: this.now });
    }
  }

  /** Those that were left behind by a host that has ended. */
  resume(): void {
    for (const job of this.#all()) {
      if (stateOf(job) === "inProgress") this.#end(job.value._id, "The host has ended while it ran");
      else this.#arm(job);
    }
  }

  /** Arms the timers of what a commit has scheduled, and disarms those of what it has cancelled. */
  changed(changes: readonly Change[]): void {
    for (const { after } of changes) if (after?.table.name === TABLE) this.#arm(after);
  }

  /** Moves the clock, and waits for all that becomes due by then to end. */
  async advance(milliseconds: number): Promise<number> {
    this.ahead += milliseconds;
    let ran = 0;
    for (let due = this.#due(); due.length > 0 || this.#running.size > 0; due = this.#due()) {
      ran += due.length;
      for (const job of due) this.#start(job.value._id);
      await Promise.all(this.#running.values());
    }
    for (const job of this.#all()) this.#arm(job);
    return ran;
  }

  #all(): Stored[] {
    const tree = this.backend.tree(TABLE, "by_creation_time");
    const found: Stored[] = [];
    for (let entry = tree.first("", END); entry !== undefined; entry = tree.first(`${entry[0]}\u0000`, END)) found.push(entry[1]);
    return found;
  }

  #due(): Stored[] {
    const isDue = (job: Stored) => stateOf(job) === "pending" && timeOf(job) <= this.now;
    return this.#all().filter((job) => isDue(job) && !this.#running.has(job.value._id));
  }

  #arm(job: Stored): void {
    const id = job.value._id;
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
    if (stateOf(job) !== "pending") return;
    const wait = timeOf(job) - this.now;
    const timer = setTimeout(() => (wait > LONGEST ? this.#arm(job) : this.#start(id)), Math.min(LONGEST, Math.max(0, wait)));
    this.#timers.set(id, timer.unref());
  }

  #start(id: string): void {
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
    if (this.#running.has(id)) return;
    const running = this.#run(id)
      .catch((error: unknown) => console.error(error))
      .finally(() => this.#running.delete(id));
    this.#running.set(id, running);
  }

  async #run(id: string): Promise<void> {
    const job = this.backend.transact((transaction) => transaction.entered(TABLE, id));
    if (job === null || stateOf(job) !== "pending") return;
    const name = (job.value["name"] as string).replace(".js:", ":");
    const [args = {}] = (JSON.parse(job.json) as { args: JSONValue[] }).args;
    try {
      const found = this.backend.options.functions.find(name);
      if (found === undefined) throw new Error(`Could not find function for '${name}'`);
      if (kindOf(found) === "mutation") {
        await this.backend.callSettling(name, args, (transaction) => {
          const now = transaction.entered(TABLE, id);
          // One that cancels itself is applied all the same.
          if (transaction.changes.some(({ after }) => after?.value._id === id)) return;
          if (now === null || stateOf(now) !== "pending") throw new Canceled();
          transaction.alter(now, { state: { kind: "success" }, completedTime: this.now });
        });
        return;
      }
      if (!this.#begin(id)) return;
      await this.backend.call("action", name, args);
      this.#end(id);
    } catch (error) {
      if (error instanceof Canceled) return;
      console.error(error);
      this.#end(id, error instanceof Error ? error.message : String(error));
    }
  }

  #begin(id: string): boolean {
    return this.backend.transact((transaction) => {
      const job = transaction.entered(TABLE, id);
      if (job === null || stateOf(job) !== "pending") return false;
      transaction.alter(job, { state: { kind: "inProgress" } });
      return true;
    });
  }

  #end(id: string, error?: string): void {
    this.backend.transact((transaction) => {
      const job = transaction.entered(TABLE, id);
      if (job === null || !["pending", "inProgress"].includes(stateOf(job))) return;
      const state: Record<string, string> = error === undefined ? { kind: "success" } : { kind: "failed", error };
      transaction.alter(job, { state, completedTime: this.now });
    });
  }
}

class Canceled extends Error {}

const stateOf = (job: Stored): string => (job.value["state"] as { kind: string }).kind;
const timeOf = (job: Stored): number => job.value["scheduledTime"] as number;
