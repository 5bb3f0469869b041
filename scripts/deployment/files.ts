/**
 * Files as the backend keeps them: an upload URL takes one file, within an hour, and a file has a URL as long as it is stored.
 *
 * The table `_storage` says which files there are, so that what a mutation does to them is part of it. Uploading and fetching need no key:
 * whoever has the URL may.
 */
import { createHash, randomUUID } from "node:crypto";
import type { Backend } from "./backend";
import type { Change } from "./store";
import type { Transaction } from "./transaction";

const TABLE = "_storage";
const UPLOADABLE_MILLISECONDS = 60 * 60 * 1_000;

/** The bytes of files, by their ids; the end of a URL, its key, does not tell the id. */
export interface Bytes {
  put(id: string, key: string, bytes: Buffer): void;
  bytes(id: string): Buffer | undefined;
  keyOf(id: string): string | undefined;
  idOf(key: string): string | undefined;
  drop(id: string): void;
}

class InMemory implements Bytes {
  readonly #files = new Map<string, { key: string; bytes: Buffer }>();
  readonly #ids = new Map<string, string>();

  put(id: string, key: string, bytes: Buffer): void {
    this.#files.set(id, { key, bytes });
    this.#ids.set(key, id);
  }

  bytes(id: string): Buffer | undefined {
    return this.#files.get(id)?.bytes;
  }

  keyOf(id: string): string | undefined {
    return this.#files.get(id)?.key;
  }

  idOf(key: string): string | undefined {
    return this.#ids.get(key);
  }

  drop(id: string): void {
    this.#ids.delete(this.keyOf(id) ?? "");
    this.#files.delete(id);
  }
}

/** What was sent is not what it was said to be. */
export class DigestMismatch extends Error {}

export class Files {
  /** Where the host is reached, once it is. */
  origin = "";
  readonly #tokens = new Map<string, number>();

  constructor(
    readonly backend: Backend,
    readonly held: Bytes = new InMemory(),
  ) {}

  uploadUrl(): string {
    const token = randomUUID();
    this.#tokens.set(token, Date.now() + UPLOADABLE_MILLISECONDS);
    return `${this.origin}/api/storage/upload?token=${token}`;
  }

  /** Takes an upload URL, which is good for one file; whether it is one, still. */
  take(token: string): boolean {
    const until = this.#tokens.get(token);
    this.#tokens.delete(token);
    return until !== undefined && until >= Date.now();
  }

  /** Stores a file, and answers its id. Throws DigestMismatch unless it has the SHA-256 that it is said to have, in hex or base64. */
  store(bytes: Buffer, type: string | undefined, expected?: string): string {
    const hash = createHash("sha256").update(bytes).digest();
    const sha256 = hash.toString("hex");
    if (expected !== undefined && expected !== sha256 && expected !== hash.toString("base64")) {
      throw new DigestMismatch("The SHA-256 of the file is not that of its digest.");
    }
    return this.backend.transact((transaction) => {
      const id = transaction.enter(TABLE, { sha256, size: bytes.byteLength, ...(type === undefined ? {} : { contentType: type }) });
      // Bytes without a document, which a failure would leave, are nobody's.
      this.held.put(id, randomUUID(), bytes);
      return id;
    });
  }

  url(transaction: Transaction, id: string): string | null {
    const key = transaction.entered(TABLE, id) === null ? undefined : this.held.keyOf(id);
    return key === undefined ? null : `${this.origin}/api/storage/${key}`;
  }

  metadata(
    transaction: Transaction,
    id: string,
  ): { storageId: string; sha256: string; size: number; contentType: string | null } | null {
    const found = transaction.entered(TABLE, id);
    if (found === null) return null;
    const { sha256, size, contentType = null } = found.value as unknown as { sha256: string; size: number; contentType?: string };
    return { storageId: id, sha256, size, contentType };
  }

  delete(transaction: Transaction, id: string): void {
    const found = transaction.entered(TABLE, id);
    if (found === null) throw new Error(`storage id ${id} not found`);
    transaction.alter(found, null);
  }

  get(id: string): { bytes: Buffer; type: string | null } | undefined {
    const found = this.backend.transact((transaction) => this.metadata(transaction, id));
    const bytes = found === null ? undefined : this.held.bytes(id);
    return bytes && { bytes, type: found!.contentType };
  }

  at(key: string): { bytes: Buffer; type: string | null } | undefined {
    const id = this.held.idOf(key);
    return id === undefined ? undefined : this.get(id);
  }

  /** Forgets the bytes of files that a commit has deleted. */
  changed(changes: readonly Change[]): void {
    for (const { before, after } of changes) if (before?.table.name === TABLE && after === null) this.held.drop(before.value._id);
  }
}
