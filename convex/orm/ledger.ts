/**
 * The ledger makes a commit that is sent again safe: it keeps the answer of every commit under its id, for an hour. A commit that is
 * withdrawn before it has been applied has an entry without an answer, so that a late copy of it is known.
 *
 * The entry is written in the same mutation as the writes, so there is one exactly when they were applied.
 */
import { convexToJson, getDocumentSize, jsonToConvex, type Value } from "convex/values";
import type { Writer } from "./database";
import type { Catalog } from "./catalog";
import type { CommitMeter } from "./meter";
import type { Applied, Fields } from "./protocol";
import { scan } from "./range";

/** The table and its index, as a schema has to declare them: `commitId` and `answer`, both strings. */
export const LEDGER_TABLE = "convexorm_commits";
export const LEDGER_INDEX = "by_commit";

export class Ledger {
  constructor(
    readonly db: Writer,
    readonly catalog: Catalog,
    readonly meter: CommitMeter,
  ) {}

  /** The answer a commit was given before, null if it was withdrawn, undefined if it is new. */
  async recall(commitId: string): Promise<Applied[][] | null | undefined> {
    const fields = this.catalog.fields(LEDGER_TABLE, LEDGER_INDEX);
    this.meter.charge({ indexRanges: 1 });
    for await (const entry of scan(this.db, LEDGER_TABLE, LEDGER_INDEX, fields, { eq: [[commitId]] }, "asc")) {
      return jsonToConvex(JSON.parse(entry["answer"] as string)) as Applied[][] | null;
    }
    return undefined;
  }

  /** Keeps the answer of a commit, or null for one that is withdrawn. */
  async record(commitId: string, answer: Applied[][] | null): Promise<void> {
    const entry: Fields = { commitId, answer: JSON.stringify(convexToJson(answer as Value)) };
    this.meter.charge({ documentsWritten: 1, bytesWritten: getDocumentSize(entry) });
    await this.db.insert(LEDGER_TABLE, entry);
  }
}
