/**
 * Digests of documents: equal as long as a document is the same, so that a reader who kept it can tell without reading it again.
 *
 * Convex answers an unchanged query from its cache, so asking for the digest of an unchanged range reads no documents.
 */
import { sha256 } from "./canonical";
import { hashOf } from "./hash";
import type { Document } from "./protocol";

/** A document's id and digest: 16 hexadecimal characters, to tell versions of one document apart. */
export type Digest = [id: string, digest: string];

export const digestOf = (document: Document): Digest => [document._id, hashOf(document)];

/** One digest of all, in their order. */
export async function digestAll(digests: readonly Digest[]): Promise<string> {
  return await sha256(new TextEncoder().encode(digests.map((each) => each.join(" ")).join(" ")));
}
