/**
 * Runs one call of a function as Convex would answer it over HTTP, errors included.
 */
import { randomBytes } from "node:crypto";
import { convexToJson, type JSONValue, type Value } from "convex/values";
import { NotPermitted, requireOperation, type Operation } from "./access";
import { Backend, ConflictError, isConvexError, type Kept } from "./backend";
import { QueryCache } from "./cache";
import { writesOf, type ReadSet, type Write } from "./conflicts";
import { Crons } from "./crons";
import type { Files } from "./files";
import { canonicalPath, kindOf, SPEC, type FunctionKind, type Functions } from "./functions";
import { Tally } from "./metrics";
import { Routes } from "./routes";
import type { Snapshot } from "./store";
import { CallError, exportValue, importArguments, type Format } from "./values";

export interface Call {
  kind: FunctionKind;
  path: string;
  args: unknown;
  format: Format;
  /** Whether the caller showed the admin key. */
  isAdmin: boolean;
  /** The component whose function is meant; there are none here. */
  componentPath?: string | undefined;
}

/** What is there at one moment, to run queries over, and what was written since. */
export interface Moment {
  readonly snapshot: Snapshot;
  /** Later than every moment before, also of a host that was here before this one. */
  readonly ts: bigint;
  /** Whether something of this was written since. */
  isOverwritten(reads: ReadSet | undefined): boolean;
  end(): void;
}

/** A query that was run, what it answered, what it has read, and where its page ends. */
export interface Observed {
  answer: Answer;
  reads: ReadSet | undefined;
  journal: string | null;
}

export type Answer =
  | { status: "success"; value: JSONValue; logLines: [] }
  | { status: "error"; errorMessage: string; errorData?: JSONValue; logLines: [] };

const WORDS: Record<FunctionKind, string> = { query: "Query", mutation: "Mutation", action: "Action" };

export class Host {
  readonly metrics = new Tally();
  readonly #queries = new QueryCache();
  readonly #listeners: ((writes: readonly Write[]) => void)[] = [];
  readonly #began = BigInt(Date.now()) * 1_000_000n;
  readonly #backend: Backend;
  readonly routes: Routes;
  readonly crons: Crons;
  get files(): Files {
    return this.#backend.files;
  }
  readonly #redact: boolean;
  /** The operations of the admin key; undefined: all. */
  readonly allowed: readonly Operation[] | undefined;

  /** `latency` and `userTime` are in milliseconds; with `redact` errors say no more than in production. */
  constructor(
    readonly functions: Functions,
    {
      latency,
      userTime,
      redact = false,
      allowed,
      kept,
    }: {
      latency: number;
      userTime: number;
      redact?: boolean;
      allowed?: readonly Operation[] | undefined;
      kept?: Kept | undefined;
    },
  ) {
    this.#redact = redact;
    this.allowed = allowed;
    this.#backend = new Backend({
      functions,
      latency,
      userTime,
      metrics: this.metrics,
      kept,
      onWrite: (changes) => {
        this.#queries.invalidate();
        if (this.#listeners.length === 0) return;
        const writes = writesOf(changes);
        for (const listener of this.#listeners) listener(writes);
      },
    });
    this.routes = new Routes(this.#backend, functions.modules.get("http"));
    this.crons = new Crons(this.#backend, functions.modules.get("crons"));
  }

  /** What is due by time begins to run: scheduled functions and crons. */
  start(): void {
    this.#backend.jobs.resume();
    this.crons.arm();
  }

  /** Moves the clock of what is due by time, and waits until all of it has run; how much that was. */
  async advance(milliseconds: number): Promise<{ scheduled: number; crons: number }> {
    const { jobs } = this.#backend;
    const ran = { scheduled: await jobs.advance(milliseconds), crons: 0 };
    for (let more = await this.crons.run(); more > 0; more = await this.crons.run()) {
      ran.crons += more;
      ran.scheduled += await jobs.advance(0);
    }
    this.crons.arm();
    return ran;
  }

  /** Has a listener told of the keys that each commit has written. */
  onCommit(listener: (writes: readonly Write[]) => void): void {
    this.#listeners.push(listener);
  }

  /** The time of the last commit. */
  get time(): bigint {
    return this.#began + BigInt(this.#backend.log.time);
  }

  moment(): Moment {
    const { log, snapshot } = this.#backend;
    const began = log.begin();
    return {
      snapshot,
      ts: this.time,
      isOverwritten: (reads) => reads !== undefined && log.conflict(began, reads) !== undefined,
      end: () => log.end(began),
    };
  }

  /** Runs a query over a moment. */
  async observe(
    { path, args, isAdmin, componentPath, journal }: { path: string; args: unknown; isAdmin: boolean; componentPath: string | undefined; journal: string | null },
    { snapshot }: Moment,
    isRerun: boolean,
  ): Promise<Observed> {
    if (isRerun) this.metrics.rerun();
    try {
      const { name, values } = this.#called({ kind: "query", path, args, format: "convex_encoded_json", isAdmin, componentPath });
      const { outcome, reads, journal: end } = await this.#backend.observe(name, values, snapshot, journal);
      return { answer: this.#answered(outcome, "convex_encoded_json"), reads, journal: end };
    } catch (error) {
      return { answer: failure(error, "convex_encoded_json", this.#redact), reads: undefined, journal };
    }
  }

  #answered(outcome: () => Value, format: Format): Answer {
    try {
      return { status: "success", value: exportValue(outcome(), format), logLines: [] };
    } catch (error) {
      return failure(error, format, this.#redact);
    }
  }

  /** `answer`, with whatever it throws as the failure of the function. */
  async answerSurely(call: Call): Promise<Answer> {
    try {
      return await this.answer(call);
    } catch (error) {
      return failure(error, call.format, this.#redact);
    }
  }

  /**
   * Throws ConflictError where a mutation was in conflict every time, and NotPermitted where the key lacks the operation of a mutation or an
   * action. That of a query fails as a function does: the backend answers in both ways.
   */
  async answer(call: Call): Promise<Answer> {
    try {
      const value = await this.#run(call);
      return { status: "success", value: exportValue(value, call.format), logLines: [] };
    } catch (error) {
      if (error instanceof ConflictError) throw error;
      if (error instanceof NotPermitted && call.kind !== "query") throw error;
      return failure(error, call.format, this.#redact);
    }
  }

  async #run(call: Call): Promise<Value> {
    if (call.path === SPEC && call.kind === "query" && call.isAdmin) return this.#spec();
    const { name, values } = this.#called(call);
    const run = () => this.#backend.call(call.kind, name, values);
    return call.kind === "query" ? await this.#queries.answer(JSON.stringify([name, values]), run) : await run();
  }

  /** The functions, and the HTTP actions, as Convex's command line asks for them. */
  #spec(): Value {
    const routes = this.routes.list().map(({ path, method }) => ({ functionType: "HttpAction", method, path }));
    return [...this.functions.spec(), ...routes] as unknown as Value;
  }

  /** The name of the function that is called, and its arguments. Throws if the caller cannot call it so. */
  #called({ kind, path, args, isAdmin, componentPath }: Call): { name: string; values: JSONValue } {
    const name = canonicalPath(path);
    if (componentPath !== undefined) throw new CallError(`Could not find function for '${name}' in '${componentPath}'.`);
    const found = this.functions.find(name);
    // An internal function is as good as missing to a caller without the key.
    if (found === undefined || (found.isInternal && !isAdmin)) {
      throw new CallError(
        `Could not find public function for '${name}'. Did you forget to run \`npx convex dev\` or \`npx convex deploy\`?`,
      );
    }
    if (found.isInternal) requireOperation(this.allowed, kindOf(found));
    if (kindOf(found) !== kind) {
      throw new CallError(`Trying to execute ${name} as ${WORDS[kind]}, but it is defined as ${WORDS[kindOf(found)]}.`);
    }
    return { name, values: convexToJson(importArguments(name, args)) };
  }
}

function failure(error: unknown, format: Format, redact: boolean): Answer {
  const words = error instanceof CallError ? error.message : `Uncaught ${nameOf(error)}: ${wordsOf(error)}`;
  const answer: Answer = {
    status: "error",
    errorMessage: `[Request ID: ${randomBytes(8).toString("hex")}] Server Error${redact ? "" : `\n${words}`}`,
    logLines: [],
  };
  return isConvexError(error) ? { ...answer, errorData: exportValue(error.data, format) } : answer;
}

const nameOf = (error: unknown): string => (error instanceof Error ? error.name : "Error");
const wordsOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
