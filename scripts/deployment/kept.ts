/**
 * Documents, files and the numbers of tables in a SQLite file, so that they outlive the host: each commit is a transaction there, which a
 * kill leaves whole or not at all.
 */
import { stat } from "node:fs/promises";
import type { Kept } from "./backend";
import type { Change } from "./store";

/** What is used of `node:sqlite`, which Node has since 22.5. */
interface Statement {
  run(...values: unknown[]): unknown;
  get(...values: unknown[]): Record<string, unknown> | undefined;
  iterate(...values: unknown[]): Iterable<Record<string, unknown>>;
}
interface Database {
  exec(sql: string): void;
  prepare(sql: string): Statement;
}

const APPLICATION = 0x43764c48;
const TABLES = `
  CREATE TABLE IF NOT EXISTS tables (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS documents (id TEXT PRIMARY KEY, tableName TEXT NOT NULL, json TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS files (id TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, bytes BLOB NOT NULL);
  PRAGMA application_id = ${APPLICATION};
`;

/** Opens a file, or makes it. Throws for one that is something else, or in use by another host. */
export async function keptIn(path: string): Promise<Kept> {
  // A name that the checker does not know: its types are of an older Node.
  const module = "node:sqlite";
  const { DatabaseSync } = (await import(module)) as { DatabaseSync: new (path: string) => Database };
  let database: Database;
  try {
    const size = (await stat(path).catch(() => null))?.size ?? 0;
    database = new DatabaseSync(path);
    // Others that open it wait for this host to end.
    database.exec("PRAGMA locking_mode = EXCLUSIVE");
    const { application_id: application } = database.prepare("PRAGMA application_id").get()!;
    const { count } = database.prepare("SELECT count(*) AS count FROM sqlite_master").get()!;
    if (application !== APPLICATION && (count !== 0 || application !== 0)) throw new Error("it is a database of something else");
    // One of ours is never without its tables, nor without a page: what has lost them is no new one.
    if (count === 0 && (application === APPLICATION || (size > 0 && size < 512))) throw new Error("it is damaged: it has lost its tables");
    const said = String(database.prepare("PRAGMA quick_check(1)").get()?.["quick_check"]);
    if (said !== "ok") throw new Error(`it is damaged: ${said.split("\n").at(-1)}`);
    database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE");
    database.exec(TABLES);
    database.exec("DELETE FROM files WHERE id NOT IN (SELECT id FROM documents); COMMIT");
    // So that the file itself says what it is, whatever becomes of the log beside it.
    database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  } catch (error) {
    throw new Error(`${path} cannot be used: ${saying(error as Error & { errcode?: number })}`);
  }
  return new InFile(database);
}

/** What is wrong, in words of its own where SQLite's say too little. */
function saying({ message, errcode }: Error & { errcode?: number }): string {
  if (errcode === 5) return "another host uses it";
  if (errcode === 11 || errcode === 26) return `it is damaged, or no file of a host: ${message}`;
  return message;
}

class InFile implements Kept {
  readonly numbers: Map<string, number>;
  readonly #numbered: Set<string>;
  readonly #statements = new Map<string, Statement>();

  constructor(readonly database: Database) {
    const rows = [...this.#prepared("SELECT name, number FROM tables").iterate()];
    this.numbers = new Map(rows.map(({ name, number }) => [name as string, number as number]));
    this.#numbered = new Set(this.numbers.keys());
  }

  *documents(): Iterable<{ table: string; json: string }> {
    for (const { tableName, json } of this.#prepared("SELECT tableName, json FROM documents").iterate()) {
      yield { table: tableName as string, json: json as string };
    }
  }

  keep(changes: readonly Change[]): void {
    this.#whole(() => {
      for (const { before, after } of changes) {
        const { name, number } = (before ?? after)!.table;
        if (!this.#numbered.has(name)) this.#prepared("INSERT OR REPLACE INTO tables VALUES (?, ?)").run(name, number);
        if (after !== null) {
          this.#prepared("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)").run(after.value._id, name, after.json);
          after.rest();
        } else this.#prepared("DELETE FROM documents WHERE id = ?").run(before!.value._id);
      }
    });
    for (const { before, after } of changes) this.#numbered.add((before ?? after)!.table.name);
  }

  put(id: string, key: string, bytes: Buffer): void {
    this.#prepared("INSERT INTO files VALUES (?, ?, ?)").run(id, key, bytes);
  }

  bytes(id: string): Buffer | undefined {
    const found = this.#prepared("SELECT bytes FROM files WHERE id = ?").get(id);
    return found && Buffer.from(found["bytes"] as Uint8Array);
  }

  keyOf(id: string): string | undefined {
    return this.#prepared("SELECT key FROM files WHERE id = ?").get(id)?.["key"] as string | undefined;
  }

  idOf(key: string): string | undefined {
    return this.#prepared("SELECT id FROM files WHERE key = ?").get(key)?.["id"] as string | undefined;
  }

  drop(id: string): void {
    this.#prepared("DELETE FROM files WHERE id = ?").run(id);
  }

  #whole(run: () => void): void {
    this.database.exec("BEGIN IMMEDIATE");
    try {
      run();
      this.database.exec("COMMIT");
    } catch (error) {
      this.database.exec("ROLLBACK");
      throw error;
    }
  }

  #prepared(sql: string): Statement {
    const known = this.#statements.get(sql) ?? this.database.prepare(sql);
    this.#statements.set(sql, known);
    return known;
  }
}
