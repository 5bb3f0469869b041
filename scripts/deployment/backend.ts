/**
 * Runs functions as the backend does: each query and mutation in a transaction over a snapshot, mutations committed in order, and run
 * again where what they have read was overwritten meanwhile.
 *
 * Functions run one at a time, so that the time of each is its own; what overlaps is the time between a mutation's run and its commit.
 */
import { ConvexError, convexToJson, jsonToConvex, type JSONValue, type Value } from "convex/values";
import { UserClock } from "./clock";
import { Files, type Bytes } from "./files";
import { WriteLog, type ReadSet } from "./conflicts";
import { flawOf, type ValidatorJSON } from "./documents";
import { canonicalPath, kindOf, type FunctionKind, type Functions, type RegisteredFunction } from "./functions";
import type { Tally } from "./metrics";
import { Jobs } from "./jobs";
import { Stored, Tables, Trees, type Change, type Snapshot, type TableDefinition } from "./store";
import { Convex, executions, type Execution } from "./syscalls";
import { Transaction } from "./transaction";
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
  /** Where all of it is kept; without one, in memory alone. */
  kept?: Kept | undefined;
}

/** Where documents outlive the host. */
export interface Kept extends Bytes {
  /** What was kept before, for tables of these numbers. */
  readonly numbers: Map<string, number>;
  documents(): Iterable<{ table: string; json: string }>;
  /** Keeps what a commit has changed, all or nothing. */
  keep(changes: readonly Change[]): void;
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
  readonly files: Files;
  readonly jobs: Jobs;
  #snapshot: Snapshot = new Map<string, Tree<Stored>>();
  #lastTick = 0;
  /** The function under way, after which the next one runs. */
  #turn: Promise<unknown> = Promise.resolve();
  readonly #validators = new Map<string, ValidatorJSON>();

  constructor(readonly options: BackendOptions) {
    this.tables = new Tables(options.functions.schema, options.kept?.numbers);
    this.files = new Files(this, options.kept);
    this.jobs = new Jobs(this);
    if (options.kept) this.#load(options.kept);
    (globalThis as unknown as { Convex: typeof Convex }).Convex = Convex;
  }

  #load(kept: Kept): void {
    const trees = new Trees(this.#snapshot);
    for (const { table: name, json } of kept.documents()) {
      const table = this.tables.get(name);
      const stored = readAs(table, json);
      const { _id, _creationTime, ...fields } = stored.value;
      const flaw = table.documentType && this.tables.validated ? flawOf(this.tables, table.documentType, fields) : null;
      if (flaw !== null) throw new Error(`A document in table "${name}" does not match the schema: ${flaw}`);
      trees.apply({ before: null, after: stored });
      this.#lastTick = Math.max(this.#lastTick, _creationTime);
      stored.rest();
    }
    this.#snapshot = trees.snapshot();
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
    const ran = await this.#inTurn(() => this.#run(path, found, args, false, { snapshot, journal }));
    this.#count(ran, { committed: false });
    const { reads } = ran.transaction;
    return { outcome: ran.outcome, reads, journal: ran.transaction.journal };
  }

  /** `settle` is done in the same transaction, when the function has answered. */
  async #runMutation(path: string, found: Invocable, args: JSONValue, settle?: (transaction: Transaction) => void): Promise<Value> {
    for (let attempt = 0; ; attempt++) {
      const ran = await this.#inTurn(() => this.#run(path, found, args, true, { settle }));
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
    this.#land(transaction);
    return outcome();
  }

  /** What has been written is so for everybody from now on. */
  #land(transaction: Transaction): void {
    const { changes } = transaction;
    if (changes.length > 0) {
      this.options.kept?.keep(changes);
      if (transaction.options.snapshot === this.#snapshot) this.#snapshot = transaction.trees.snapshot();
      else {
        // Others have committed since; what they wrote, this one has not read.
        const trees = new Trees(this.#snapshot);
        for (const change of changes) trees.apply(change);
        this.#snapshot = trees.snapshot();
      }
      this.log.record(changes);
      this.options.onWrite(changes);
      this.files.changed(changes);
      this.jobs.changed(changes);
    }
  }

  /** Does something of Convex's own at once, in a transaction. */
  transact<T>(run: (transaction: Transaction) => T): T {
    const transaction = this.#transaction(new UserClock(Infinity), true);
    const done = run(transaction);
    this.#land(transaction);
    return done;
  }

  /** Runs a mutation, and does `settle` in its transaction. */
  async callSettling(path: string, args: JSONValue, settle: (transaction: Transaction) => void): Promise<Value> {
    const found = this.#function("mutation", path);
    this.#requireArguments(path, found, args);
    return await this.#runMutation(path, found, args, settle);
  }

  /** Runs something as an action does, outside of transactions. */
  async inAction<T>(name: string, run: () => Promise<T>): Promise<T> {
    const execution: Execution = { name, backend: this, transaction: undefined, clock: undefined, isOver: false };
    try {
      return await executions.run(execution, run);
    } finally {
      execution.isOver = true;
    }
  }

  #transaction(clock: UserClock, canWrite: boolean, snapshot = this.#snapshot): Transaction {
    return new Transaction({ tables: this.tables, snapshot, clock, tick: () => this.#tick(), canWrite });
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
    { snapshot, journal = null, settle }: Running = {},
  ): Promise<Ran> {
    const clock = new UserClock(this.options.userTime);
    const began = canWrite ? this.log.begin() : this.log.time;
    const transaction = this.#transaction(clock, canWrite, snapshot);
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
      settle?.(transaction);
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

/** How a function is run: over which snapshot, from which place of its pages on, and what is done once it has answered. */
interface Running {
  snapshot?: Snapshot;
  journal?: string | null;
  settle?: ((transaction: Transaction) => void) | undefined;
}

/** A run, and what became of it. */
interface Ran {
  began: number;
  transaction: Transaction;
  outcome: () => Value;
  isRefused: boolean;
}

/** A document that was kept. Throws for what is none. */
function readAs(table: TableDefinition, json: string): Stored {
  const stored = new Stored(table, json);
  try {
    if (typeof stored.value._id === "string" && typeof stored.value._creationTime === "number") return stored;
  } catch {}
  throw new Error(`A document of table "${table.name}" cannot be read: the file that is kept is damaged.`);
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
