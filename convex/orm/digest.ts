/**
 * Digests of documents: equal as long as a document is the same, so that a reader who kept it can tell without reading it again.
 *
 * Convex answers an unchanged query from its cache, so asking for the digest of an unchanged range reads no documents.
 */
import type { Value } from "convex/values";
import { canonical, hex } from "./canonical";
import { isNumbers } from "./packed";
import type { Document } from "./protocol";

/** Hexadecimal characters of one document's digest: 64 bits, to tell versions of one document apart. */
const LENGTH = 16;

/** Stands in the canonical form for an array of numbers; no field of a document has such a name. */
const NUMBERS = "$numbers";

/** The digest of each document, by id. */
export async function digestEach(documents: Document[]): Promise<[string, string][]> {
  return await Promise.all(
    documents.map(async (document): Promise<[string, string]> => [document._id, await digestOf(document)]),
  );
}

/** One digest of all documents, in their order. */
export async function digestAll(documents: Document[]): Promise<string> {
  const each = (await digestEach(documents)).flat().join(" ");
  return hex(new Uint8Array(await sha256([new TextEncoder().encode(each)])));
}

async function digestOf(document: Document): Promise<string> {
  // Long arrays of numbers, vectors, are hashed as their floats: the canonical form would take most of a query's second.
  const rest: Record<string, Value> = {};
  const parts: Uint8Array<ArrayBuffer>[] = [];
  for (const name of Object.keys(document).sort()) {
    const value = document[name];
    if (value === undefined) continue;
    rest[name] = isNumbers(value) ? { [NUMBERS]: value.length } : value;
    if (isNumbers(value)) parts.push(new Uint8Array(Float64Array.from(value).buffer));
  }
  return hex(new Uint8Array(await sha256([canonical(rest), ...parts]))).slice(0, LENGTH);
}

async function sha256(parts: Uint8Array<ArrayBuffer>[]): Promise<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.byteLength, 0));
  parts.reduce((offset, part) => (whole.set(part, offset), offset + part.byteLength), 0);
  return await crypto.subtle.digest("SHA-256", whole);
}
