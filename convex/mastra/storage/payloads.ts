/**
 * Fields of any value: stored as the Convex value they are, or as JSON text where Convex cannot hold them (keys such as `$schema`,
 * nesting beyond 16 levels), and read back from both.
 *
 * `metadata` and a document's `record` are always objects, so JSON text there says what it is, and is plain. Other payloads may
 * be text themselves; what is JSON text in them begins with a mark of white space, which every JSON parser passes over.
 */
import type { Value } from "convex/values";
import { flawIn } from "../../orm/documents";
import { refusal } from "./errors";

const MARK = "\t\n\t ";

// A payload is one level down in its document.
const LEVEL = 1;

// What Convex lets a function return, less the levels that an answer puts around a payload.
const ANSWER_LEVELS = 64;
const LEVELS_AROUND = 4;

const OBJECTS: ReadonlySet<string> = new Set(["metadata", "record"]);

/** The value to store for a payload. */
export function stored(field: string, value: Value): Value {
  if (typeof value === "string") {
    return !OBJECTS.has(field) && value.startsWith(MARK) ? MARK + JSON.stringify(value) : value;
  }
  if (flawIn(value, LEVEL) === null) return value;
  return (OBJECTS.has(field) ? "" : MARK) + JSON.stringify(value);
}

/** The payload that is stored as `value`: any JSON, also what Convex could not hold. */
export function payload(field: string, value: Value): unknown {
  if (typeof value !== "string") return value;
  if (value.startsWith(MARK)) return parsed(value.slice(MARK.length)) ?? value;
  if (!OBJECTS.has(field)) return value;
  const object = parsed(value);
  return typeof object === "object" && object !== null ? object : value;
}

/**
 * The payload as an answer can carry it: the value itself, or its JSON text where Convex would not let a function return the value.
 * The npm client parses metadata that comes as text.
 */
export function answered(field: string, value: Value): Value {
  const found = payload(field, value) as Value;
  if (typeof value !== "string" || flawIn(found, LEVELS_AROUND, ANSWER_LEVELS) === null) return found;
  return value.startsWith(MARK) ? value.slice(MARK.length) : value;
}

/** Stored metadata with the keys of an update, one level deep. Throws where that would lose what is stored, which is no object. */
export function mergedMetadata(old: Value | undefined, update: Record<string, Value>): Record<string, Value> {
  const found = old === undefined ? undefined : payload("metadata", old);
  const isObject = typeof found === "object" && found !== null && !Array.isArray(found);
  if (found != null && found !== "" && !isObject) {
    throw refusal("Conflict", "The stored metadata is no object, so nothing can be merged into it.");
  }
  return { ...(isObject ? (found as Record<string, Value>) : {}), ...update };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
