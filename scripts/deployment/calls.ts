/**
 * Runs one call of a function as Convex would answer it over HTTP, errors included.
 */
import { randomBytes } from "node:crypto";
import { convexTest } from "convex-test";
import { makeFunctionReference } from "convex/server";
import { convexToJson, type JSONValue, type Value } from "convex/values";
import { QueryCache } from "./cache";
import { canonicalPath, kindOf, type FunctionKind, type Functions } from "./functions";
import { CallError, exportValue, importArguments, requireResult, type Format } from "./values";
import { passOverMissingVectors } from "./vectors";

export interface Call {
  kind: FunctionKind;
  path: string;
  args: unknown;
  format: Format;
  /** Whether the caller showed the admin key. */
  isAdmin: boolean;
}

export type Answer =
  | { status: "success"; value: JSONValue; logLines: [] }
  | { status: "error"; errorMessage: string; errorData?: JSONValue; logLines: [] };

const WORDS: Record<FunctionKind, string> = { query: "Query", mutation: "Mutation", action: "Action" };

export class Host {
  readonly queries = new QueryCache();
  readonly #backend;

  constructor(readonly functions: Functions) {
    const { schema } = functions;
    this.#backend = convexTest({
      ...(schema === undefined ? {} : { schema }),
      modules: functions.importers(),
      transactionLimits: true,
    });
    if (schema !== undefined) passOverMissingVectors(schema);
  }

  async answer(call: Call): Promise<Answer> {
    try {
      const value = await this.#run(call);
      return { status: "success", value: exportValue(value, call.format), logLines: [] };
    } catch (error) {
      return failure(error, call.format);
    }
  }

  async #run({ kind, path, args, isAdmin }: Call): Promise<Value> {
    const name = canonicalPath(path);
    const found = this.functions.find(name);
    // An internal function is as good as missing to a caller without the key.
    if (found === undefined || (found.isInternal && !isAdmin)) {
      throw new CallError(
        `Could not find public function for '${name}'. Did you forget to run \`npx convex dev\` or \`npx convex deploy\`?`,
      );
    }
    if (kindOf(found) !== kind) {
      throw new CallError(`Trying to execute ${name} as ${WORDS[kind]}, but it is defined as ${WORDS[kindOf(found)]}.`);
    }
    const values = importArguments(name, args);
    const run = async (): Promise<Value> => {
      const result = ((await this.#invoke(kind, name, values)) ?? null) as Value;
      requireResult(name, result);
      return result;
    };
    if (kind !== "query") return await run();
    return await this.queries.answer(JSON.stringify([name, convexToJson(values)]), run);
  }

  async #invoke(kind: FunctionKind, name: string, args: Record<string, Value>): Promise<unknown> {
    switch (kind) {
      case "query":
        return await this.#backend.query(makeFunctionReference<"query">(name), args);
      case "mutation":
        return await this.#backend.mutation(makeFunctionReference<"mutation">(name), args);
      case "action":
        return await this.#backend.action(makeFunctionReference<"action">(name), args);
    }
  }
}

function failure(error: unknown, format: Format): Answer {
  const words = error instanceof CallError ? error.message : `Uncaught ${nameOf(error)}: ${wordsOf(error)}`;
  const answer: Answer = {
    status: "error",
    errorMessage: `[Request ID: ${randomBytes(8).toString("hex")}] Server Error\n${words}`,
    logLines: [],
  };
  return isConvexError(error) ? { ...answer, errorData: exportValue(error.data, format) } : answer;
}

// By its mark: functions that Node loads as CommonJS have a class of their own.
const isConvexError = (error: unknown): error is Error & { data: Value } =>
  error instanceof Error && Symbol.for("ConvexError") in error;

const nameOf = (error: unknown): string => (error instanceof Error ? error.name : "Error");
const wordsOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
