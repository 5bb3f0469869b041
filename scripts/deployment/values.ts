/**
 * Values on their way in and out of a function: the two JSON formats, and the limits Convex holds every value to.
 */
import { convexToJson, getConvexSize, jsonToConvex, type JSONValue, type Value } from "convex/values";

// https://docs.convex.dev/production/state/limits
const MAXIMUM_BYTES = 16 * (1 << 20);
const MAXIMUM_ELEMENTS = 8_192;
const MAXIMUM_FIELDS = 1_024;
const MAXIMUM_NESTING = 64;
const FIELD_NAME = /^(?!\$)[\x20-\x7e]{0,1024}$/;

const LONE_SURROGATE = /\p{Surrogate}/u;

export type Format = "convex_encoded_json" | "json";

const FORMATS: Record<string, Format> = {
  convex_encoded_json: "convex_encoded_json",
  convex_json: "convex_encoded_json",
  json: "json",
  convex_clean_json: "json",
};

export const formatNamed = (name: string): Format | undefined =>
  Object.hasOwn(FORMATS, name) ? FORMATS[name] : undefined;

/** A call that Convex refuses before or after it runs the function; the message says why. */
export class CallError extends Error {}

/** The arguments of a call, sent as an object or as an array of one object. Both formats encode arguments alike. */
export function importArguments(path: string, json: unknown): Record<string, Value> {
  const list = Array.isArray(json) ? json : [json];
  try {
    const values = list.map((each) => jsonToConvex(each as JSONValue));
    requireValue(values, 0);
    const [args = {}] = values;
    if (values.length > 1 || !isObject(args)) throw new CallError("Arguments must be one object");
    requireSize(`Arguments for ${path} are too large`, getConvexSize(values));
    return args;
  } catch (error) {
    if (error instanceof SizeError) throw error;
    throw new CallError(`Invalid arguments for ${path}: ${(error as Error).message}`);
  }
}

/** Throws if Convex would not let a function return this value. */
export function requireResult(path: string, result: Value): void {
  try {
    requireValue(result, 0);
  } catch (error) {
    throw new CallError(`Function ${path} return value invalid: ${(error as Error).message}`);
  }
  requireSize(`Function ${path} return value is too large`, getConvexSize(result));
}

export function exportValue(value: Value, format: Format): JSONValue {
  return format === "json" ? exportClean(value) : convexToJson(value);
}

/** JSON whose whole floats have a point, as the backend writes them: clients whose language tells 1 from 1.0 rely on it. */
export function printed(value: unknown): string {
  if (typeof value === "number") return Number.isInteger(value) && Math.abs(value) < 1e21 ? `${value}.0` : JSON.stringify(value);
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(printed).join(",")}]`;
  const fields: string[] = [];
  for (const [name, each] of Object.entries(value)) {
    if (each !== undefined) fields.push(`${JSON.stringify(name)}:${printed(each)}`);
  }
  return `{${fields.join(",")}}`;
}

/** The lossy format: what JSON has no word for becomes a string. */
function exportClean(value: Value): JSONValue {
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "number") return Number.isFinite(value) ? value : String(value);
  if (value instanceof ArrayBuffer) return Buffer.from(value).toString("base64");
  if (Array.isArray(value)) return value.map(exportClean);
  if (!isObject(value)) return value as JSONValue;
  const entries = Object.entries(value).filter((entry): entry is [string, Value] => entry[1] !== undefined);
  return Object.fromEntries(entries.map(([name, each]) => [name, exportClean(each)]));
}

class SizeError extends CallError {}

function requireSize(what: string, size: number): void {
  if (size > MAXIMUM_BYTES) {
    throw new SizeError(
      `${what} (actual: ${(size / (1 << 20)).toFixed(2)} MiB, limit: ${MAXIMUM_BYTES / (1 << 20)} MiB)`,
    );
  }
}

function requireValue(value: Value | undefined, depth: number): void {
  if (typeof value === "string" && LONE_SURROGATE.test(value)) throw new CallError("A string has a lone surrogate");
  if (Array.isArray(value)) {
    requireNesting(depth + 1);
    if (value.length > MAXIMUM_ELEMENTS) {
      throw new CallError(`Array length is too long (${value.length} > maximum length ${MAXIMUM_ELEMENTS})`);
    }
    for (const each of value) requireValue(each, depth + 1);
  } else if (isObject(value)) {
    requireNesting(depth + 1);
    const names = Object.keys(value);
    if (names.length > MAXIMUM_FIELDS) {
      throw new CallError(`Object has too many fields (${names.length} > maximum number ${MAXIMUM_FIELDS})`);
    }
    if (!names.every((name) => FIELD_NAME.test(name))) {
      throw new CallError("Field names can only contain non-control ASCII characters and cannot start with '$'");
    }
    for (const each of Object.values(value)) requireValue(each, depth + 1);
  }
}

function requireNesting(depth: number): void {
  if (depth > MAXIMUM_NESTING) {
    throw new CallError(`Value is too nested (more than maximum nesting ${MAXIMUM_NESTING})`);
  }
}

function isObject(value: Value | undefined): value is Record<string, Value> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof ArrayBuffer);
}
