/**
 * Files as the backend keeps them: an upload URL takes one file, within an hour, and a file has a URL as long as it is stored.
 *
 * Uploading and fetching need no key: whoever has the URL may.
 */
import { createHash, randomUUID } from "node:crypto";
import { newId } from "./ids";

const STORAGE = 10_001;
const UPLOADABLE_MILLISECONDS = 60 * 60 * 1_000;

export interface StoredFile {
  bytes: Buffer;
  type: string | null;
  sha256: string;
  /** The end of its URL, which does not tell its id. */
  key: string;
}

export class Files {
  /** Where the host is reached, once it is. */
  origin = "";
  readonly #tokens = new Map<string, number>();
  readonly #files = new Map<string, StoredFile>();

  uploadUrl(): string {
    const token = randomUUID();
    this.#tokens.set(token, Date.now() + UPLOADABLE_MILLISECONDS);
    return `${this.origin}/api/storage/upload?token=${token}`;
  }

  /** Stores what was sent to an upload URL, and answers its id; undefined for a URL that is none, or none any more. */
  upload(token: string, bytes: Buffer, type: string | undefined): string | undefined {
    const until = this.#tokens.get(token);
    if (until === undefined || until < Date.now()) return undefined;
    this.#tokens.delete(token);
    const id = newId(STORAGE);
    const sha256 = createHash("sha256").update(bytes).digest("base64");
    this.#files.set(id, { bytes, type: type ?? null, sha256, key: randomUUID() });
    return id;
  }

  url(id: string): string | null {
    const file = this.#files.get(id);
    return file === undefined ? null : `${this.origin}/api/storage/${file.key}`;
  }

  metadata(id: string): { storageId: string; sha256: string; size: number; contentType: string | null } | null {
    const file = this.#files.get(id);
    return file === undefined
      ? null
      : { storageId: id, sha256: file.sha256, size: file.bytes.byteLength, contentType: file.type };
  }

  at(key: string): StoredFile | undefined {
    return [...this.#files.values()].find((file) => file.key === key);
  }

  delete(id: string): void {
    if (!this.#files.delete(id)) throw new Error(`storage id ${id} not found`);
  }
}
