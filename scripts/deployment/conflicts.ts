/**
 * Optimistic concurrency, as Convex does it: a commit conflicts with one that came after its snapshot and wrote a key in an interval
 * of an index that it has read.
 */
import { indexName, type Change } from "./store";

/** An interval of an index: the keys from `lower` on and before `upper`. */
export interface Interval {
  lower: string;
  upper: string;
}

/** What a transaction has read, by index. */
export class ReadSet {
  readonly #intervals = new Map<string, Interval[]>();

  add(table: string, index: string, lower: string, upper: string): void {
    if (lower >= upper) return;
    const name = indexName(table, index);
    const known = this.#intervals.get(name);
    if (known === undefined) this.#intervals.set(name, [{ lower, upper }]);
    else known.push({ lower, upper });
  }

  /** The table of the first of these keys that was read; undefined if none was. */
  overwrittenBy(writes: readonly Write[]): string | undefined {
    for (const { table, index, key } of writes) {
      if (this.#intervals.get(index)?.some(({ lower, upper }) => lower <= key && key < upper)) return table;
    }
    return undefined;
  }
}

export interface Write {
  table: string;
  index: string;
  key: string;
}

interface Commit {
  time: number;
  changes: readonly Change[];
  /** Made when a transaction first asks. */
  writes: Write[] | undefined;
}

/** The commits that transactions still under way have not seen. */
export class WriteLog {
  readonly #commits: Commit[] = [];
  readonly #open = new Map<number, number>();
  time = 0;

  /** A transaction begins now; its snapshot is of this time. */
  begin(): number {
    this.#open.set(this.time, (this.#open.get(this.time) ?? 0) + 1);
    return this.time;
  }

  end(began: number): void {
    const left = this.#open.get(began)! - 1;
    if (left > 0) this.#open.set(began, left);
    else this.#open.delete(began);
    const oldest = Math.min(this.time, ...this.#open.keys());
    while (this.#commits[0] && this.#commits[0].time <= oldest) this.#commits.shift();
  }

  /** The table in which what was read since `began` has been overwritten; undefined where it has not. */
  conflict(began: number, reads: ReadSet): string | undefined {
    for (const commit of this.#commits) {
      if (commit.time <= began) continue;
      const table = reads.overwrittenBy((commit.writes ??= writesOf(commit.changes)));
      if (table !== undefined) return table;
    }
    return undefined;
  }

  record(changes: readonly Change[]): void {
    this.time += 1;
    if (this.#open.size > 0) this.#commits.push({ time: this.time, changes, writes: undefined });
  }
}

/** Both keys, the old and the new, in every index of each document. */
export function writesOf(changes: readonly Change[]): Write[] {
  return changes.flatMap(({ before, after }) => {
    const table = (before ?? after)!.table;
    return table.indexes.flatMap(({ name }, place) => {
      const keys = new Set([before?.keys[place], after?.keys[place]]);
      return [...keys].flatMap((key) => (key === undefined ? [] : [{ table: table.name, index: indexName(table.name, name), key }]));
    });
  });
}
