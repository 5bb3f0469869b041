/**
 * Runs functions as the backend does: each query and mutation in a transaction over a snapshot, mutations committed in order, and run
 * again where what they have read was overwritten meanwhile.
 *
 * Functions run one at a time, so that the time of each is its own; what overlaps is the time between a mutation's run and its commit.
 */
import { ConvexError, convexToJson, jsonToConvex, type JSONValue, type Value } from "convex/values";
import { UserClock } from "./clock";
import { Files } from "./files";
import { WriteLog, type ReadSet } from "./conflicts";
import { flawOf, type ValidatorJSON } from "./documents";
import { canonicalPath, kindOf, type FunctionKind, type Functions, type RegisteredFunction } from "./functions";
import type { Tally } from "./metrics";
import { Tables, Trees, type Change, type Snapshot, type Stored } from "./store";
import { Convex, executions, type Execution } from "./syscalls";
import { Transaction, type Scheduled } from "./transaction";
import type { Tree } from "./tree";
import { requireResult } from "./values";

export interface BackendOptions {
  functions: Functions;
  /** Milliseconds between the run of a mutation and its commit, at least. */
  latency: number;
  /** Milliseconds of user time of one query or mutation. */
  userTime: number;
  metrics: Tally;
  /** Something was written. */
  onWrite: (changes: readonly Change[]) => void;
}

/** How the npm package names a function. */
export interface FunctionAddress {
  name: string | undefined;
  reference: string | undefined;
  functionHandle: string | undefined;
}

const RETRIES = 4;
/** Milliseconds before a mutation that was in conflict is run again: up to this, and twice as much each time. */
const BACKOFF = 10;

/** A mutation was in conflict every time. */
export class ConflictError extends Error {
  constructor(readonly table: string) {
    super("Data read or written in this mutation changed while it was being run. Consider reducing the amount of data read.");
  }
}

/** A registered function, as the backend calls it. */
interface Invocable extends RegisteredFunction {
  invokeQuery?: (args: string) => Promise<string>;
  invokeMutation?: (args: string) => Promise<string>;
  invokeAction?: (requestId: string, args: string) => Promise<string>;
  exportArgs?: () => string;
}

export class Backend {
  readonly tables: Tables;
  readonly log = new WriteLog();
  readonly files = new Files();
  #snapshot: Snapshot = new Map<string, Tree<Stored>>();
  #lastTick = 0;
  /** The function under way, after which the next one runs. */
  #turn: Promise<unknown> = Promise.resolve();
  readonly #timers = new Map<string, NodeJS.Timeout>();
  readonly #validators = new Map<string, ValidatorJSON>();

  constructor(readonly options: BackendOptions) {
    this.tables = new Tables(options.functions.schema);
    (globalThis as unknown as { Convex: typeof Convex }).Convex = Convex;
  }

  /** The tree of an index as it is now. */
  tree(table: string, index: string): Tree<Stored> {
    return new Trees(this.#snapshot).get(table, index);
  }

  /** The path of a function. Throws if there is none. */
  requireFunction({ name, reference, functionHandle }: FunctionAddress): string {
    const path = canonicalPath(name ?? reference ?? functionHandle?.replace(/^function:\/\/;?/, "") ?? "");
    if (this.options.functions.find(path) === undefined) throw new Error(`Could not find function for '${path}'.`);
    return path;
  }

  /** Runs a function by itself. */
  async call(kind: FunctionKind, path: string, args: JSONValue): Promise<Value> {
    const found = this.#function(kind, path);
    this.#requireArguments(path, found, args);
    if (kind === "action") return await this.#runAction(path, found, args);
    return kind === "query" ? await this.#runQuery(path, found, args) : await this.#runMutation(path, found, args);
  }

  #function(kind: FunctionKind, path: string): Invocable {
    const found = this.options.functions.find(path) as Invocable | undefined;
    if (found === undefined) throw new Error(`Could not find function for '${path}'.`);
    if (kindOf(found) !== kind) throw new Error(`${path} is a ${kindOf(found)}, not a ${kind}.`);
    return found;
  }

  #requireArguments(path: string, found: Invocable, args: JSONValue): void {
    let validator = this.#validators.get(path);
    if (validator === undefined) {
      validator = JSON.parse(found.exportArgs?.() ?? '{"type":"any"}') as ValidatorJSON;
      this.#validators.set(path, validator);
    }
    const flaw = validator.type === "any" ? null : flawOf(this.tables, validator, jsonToConvex(args));
    if (flaw !== null) throw new Error(`ArgumentValidationError: ${flaw}`);
  }

  async #runAction(path: string, found: Invocable, args: JSONValue): Promise<Value> {
    const execution = { name: path, backend: this, transaction: undefined, clock: undefined, isOver: false };
    return await invoke(execution, () => found.invokeAction!("", JSON.stringify([args])));
  }

  async #runQuery(path: string, found: Invocable, args: JSONValue): Promise<Value> {
    const ran = await this.#inTurn(() => this.#run(path, found, args, false));
    this.#count(ran, { committed: false });
    return ran.outcome();
  }

  /** What is there now, to run queries over. */
  get snapshot(): Snapshot {
    return this.#snapshot;
  }

  /** Runs a query over what was there at some moment; what it has read is there as well where it throws. */
  async observe(path: string, args: JSONValue, snapshot: Snapshot, journal: string | null): Promise<Observation> {
    const found = this.#function("query", path);
    this.#requireArguments(path, found, args);
    const ran = await this.#inTurn(() => this.#run(path, found, args, false, snapshot, journal));
    this.#count(ran, { committed: false });
    const { reads } = ran.transaction;
    return { outcome: ran.outcome, reads, journal: ran.transaction.journal };
  }

  async #runMutation(path: string, found: Invocable, args: JSONValue): Promise<Value> {
    for (let attempt = 0; ; attempt++) {
      const ran = await this.#inTurn(() => this.#run(path, found, args, true));
      try {
        // What a mutation throws is about its snapshot: nothing is to be committed.
        if (ran.isRefused) return this.#commit(ran);
        const { latency } = this.options;
        if (latency > 0) await pause(latency);
        const conflict = this.log.conflict(ran.began, ran.transaction.reads);
        if (conflict === undefined) return this.#commit(ran);
        this.options.metrics.conflict(conflict);
        if (attempt === RETRIES) throw new ConflictError(conflict);
      } finally {
        this.log.end(ran.began);
      }
      await pause(Math.random() * BACKOFF * 2 ** attempt);
    }
  }

  #commit(ran: Ran): Value {
    const { transaction, outcome, isRefused } = ran;
    this.#count(ran, { committed: !isRefused });
    if (isRefused) return outcome();
    const { changes } = transaction;
    if (changes.length > 0) {
      if (transaction.options.snapshot === this.#snapshot) this.#snapshot = transaction.trees.snapshot();
      else {
        // Others have committed since; what they wrote, this one has not read.
        const trees = new Trees(this.#snapshot);
        for (const change of changes) trees.apply(change);
        this.#snapshot = trees.snapshot();
      }
      this.log.record(changes);
      this.options.onWrite(changes);
    }
    for (const id of transaction.cancelled) this.cancel(id);
    for (const job of transaction.scheduled) this.schedule(job);
    return outcome();
  }

  #count({ transaction }: Ran, { committed }: { committed: boolean }): void {
    this.options.metrics.transaction(transaction.meter.used, transaction.options.clock.used, { committed });
  }

  /** Runs a query or a mutation once, to its end. */
  async #run(
    path: string,
    found: Invocable,
    args: JSONValue,
    canWrite: boolean,
    snapshot = this.#snapshot,
    journal: string | null = null,
  ): Promise<Ran> {
    const clock = new UserClock(this.options.userTime);
    const began = canWrite ? this.log.begin() : this.log.time;
    const transaction = new Transaction({
      tables: this.tables,
      snapshot,
      clock,
      tick: () => this.#tick(),
      canWrite,
    });
    transaction.journal = journal;
    const execution: Execution = { name: path, backend: this, transaction, clock, isOver: false };
    const text = JSON.stringify([args]);
    const run = () => (canWrite ? found.invokeMutation!(text) : found.invokeQuery!(text));
    let outcome: () => Value;
    let isRefused = false;
    clock.resume();
    try {
      const value = await invoke(execution, run);
      clock.pause();
      clock.require();
      requireResult(path, value);
      outcome = () => value;
    } catch (error) {
      clock.pause();
      const reason = clock.used > clock.maximum && !(error instanceof Error && error.message.startsWith("Function execution")) ? timeOut(clock) : error;
      outcome = () => {
        throw reason;
      };
      isRefused = true;
    }
    transaction.closeScans();
    return { began, transaction, outcome, isRefused };
  }

  /** Runs a function as a part of the one that calls it: all of what it writes is undone if it throws. */
  async runNested(kind: string, address: FunctionAddress, args: JSONValue, caller: Execution): Promise<Value> {
    const path = this.requireFunction(address);
    const isMutation = kind === "mutation";
    const found = this.#function(isMutation ? "mutation" : "query", path);
    this.#requireArguments(path, found, args);
    const { transaction, clock } = caller;
    const undo = transaction!.savepoint();
    const { canWrite } = transaction!.options;
    if (isMutation && !canWrite) throw new Error("A query cannot run a mutation");
    try {
      transaction!.options.canWrite = isMutation;
      const text = JSON.stringify([args]);
      return await invoke({ ...caller, name: path, clock, isOver: false }, () =>
        isMutation ? found.invokeMutation!(text) : found.invokeQuery!(text),
      );
    } catch (error) {
      undo();
      throw isConvexError(error) ? Object.assign(new Error(error.message), { data: convexToJson(error.data) }) : error;
    } finally {
      transaction!.options.canWrite = canWrite;
    }
  }

  // --- scheduled functions

  schedule(job: Scheduled): void {
    const run = () => {
      this.#timers.delete(job.id);
      const found = this.options.functions.find(job.name);
      if (found === undefined) return;
      this.call(kindOf(found), job.name, job.args).catch((error: unknown) => console.error(error));
    };
    this.#timers.set(job.id, setTimeout(run, Math.max(0, job.at - Date.now())).unref());
  }

  cancel(id: string): void {
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
  }

  // --- turns and time

  async #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const before = this.#turn;
    let done!: () => void;
    this.#turn = new Promise<void>((resolve) => (done = resolve));
    await before;
    try {
      return await run();
    } finally {
      done();
    }
  }

  /** A creation time after all before, in steps that a float holds. */
  #tick(): number {
    return (this.#lastTick = Math.max(Date.now(), this.#lastTick + 2 ** -10));
  }
}

/** What a query answers or throws, what it has read, and where its page ends. */
export interface Observation {
  outcome: () => Value;
  reads: ReadSet;
  journal: string | null;
}

/** A run, and what became of it. */
interface Ran {
  began: number;
  transaction: Transaction;
  outcome: () => Value;
  isRefused: boolean;
}

const pause = (milliseconds: number): Promise<void> => new Promise((done) => setTimeout(done, milliseconds));

const timeOut = (clock: UserClock): unknown => {
  try {
    clock.require();
  } catch (error) {
    return error;
  }
  return undefined;
};

/** What a function answers. A ConvexError that it throws comes out with its data. */
async function invoke(execution: Execution, run: () => Promise<string>): Promise<Value> {
  try {
    return jsonToConvex(JSON.parse(await executions.run(execution, run)) as JSONValue);
  } catch (error) {
    if (!isConvexError(error)) throw error;
    const data = error.data as unknown;
    throw new ConvexError(typeof data === "string" ? jsonToConvex(JSON.parse(data) as JSONValue) : error.data);
  } finally {
    execution.isOver = true;
  }
}

// By its mark: functions that Node loads as CommonJS have a class of their own.
export const isConvexError = (error: unknown): error is Error & { data: Value } =>
  error instanceof Error && Symbol.for("ConvexError") in error;
