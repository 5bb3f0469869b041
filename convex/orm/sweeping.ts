/**
 * Removes what these functions keep for a time only: entries of the ledger, and rows of change logs.
 *
 * A mutation of its own does it, which a rare commit schedules: were old rows removed by commits, any two commits that overlap would
 * conflict over the same ones.
 */
import { getDocumentSize } from "convex/values";
import type { Catalog } from "./catalog";
import type { Writer } from "./database";
import { LEDGER_TABLE } from "./ledger";
import * as limits from "./limits";
import { CommitMeter } from "./meter";
import { scan } from "./range";

// What removing one more row can cost: any document may have a mebibyte, and it is read twice.
const COST = {
  indexRanges: 1,
  documentsRead: 2,
  bytesRead: 2 * limits.DOCUMENT_BYTES,
  documentsWritten: 1,
};

/** Removes rows past their time, as many as one function has room for, and says whether there are more. */
export async function sweep(db: Writer, catalog: Catalog, now: number): Promise<boolean> {
  const meter = new CommitMeter();
  let removed = 0;
  for (const [table, age] of kept(catalog)) {
    meter.charge({ indexRanges: 1 });
    const old = { eq: [], upper: { value: [now - age] as [number], inclusive: false } };
    for await (const row of scan(db, table, "by_creation_time", catalog.fields(table, "by_creation_time"), old, "asc")) {
      const bytes = getDocumentSize(row);
      meter.charge({ indexRanges: 1, documentsRead: 2, bytesRead: 2 * bytes, documentsWritten: 1 });
      await db.delete(table, row._id);
      removed += 1;
      if (removed === limits.SWEPT || !meter.hasRoom(COST)) return true;
    }
  }
  return false;
}

/** The tables whose rows are kept for a time, and for how many milliseconds. */
function* kept(catalog: Catalog): Generator<[string, number]> {
  yield [LEDGER_TABLE, limits.LEDGER_MILLISECONDS];
  for (const { table } of catalog.changeLogs) yield [table, limits.LOG_MILLISECONDS];
}

/** Whether this commit has old rows swept: about one in SWEEP_EVERY, always the same ones. */
export function isSweeper(commitId: string): boolean {
  let hash = 0;
  for (const character of commitId) hash = (Math.imul(hash, 31) + character.codePointAt(0)!) >>> 0;
  return hash % limits.SWEEP_EVERY === 0;
}
