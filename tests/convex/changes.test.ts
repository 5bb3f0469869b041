/** What a log of changes tells who kept documents, and when it tells that it does not know. */
import { makeFunctionReference } from "convex/server";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Read, Result, Write } from "../../convex/orm/protocol";
import { cost, deployment, is, missing, plain, type Deployment } from "./support";

const whole: Read = { table: "notes", index: "by_owner", eq: [is("ada")] };

const version = async (here: Deployment, read: Read = whole): Promise<string | undefined> =>
  (await here.read({ ...read, digest: "all" }))[0]!.version;

const since = async (here: Deployment, known: string | undefined, read: Read = whole): Promise<Result> =>
  (await here.read({ ...read, digest: "each", since: known! }))[0]!;

const note = (text: string, owner: string | null = "ada"): Write => {
  return { op: "insert", table: "notes", doc: { text, ...(owner === null ? {} : { owner }) } };
};

/** The ids of notes by their texts. */
const idsOf = async (here: Deployment): Promise<Record<string, string>> => {
  const [found] = await here.read({ table: "notes", index: "by_creation_time" });
  return Object.fromEntries(found!.docs.map((doc) => [doc["text"] as string, doc._id]));
};

beforeEach(() => void vi.useFakeTimers({ toFake: ["Date"] }));
afterEach(() => void vi.useRealTimers());

describe("a log of changes", () => {
  it("has a row for each commit and key, with the ids of what it wrote", async () => {
    const here = deployment();
    await here.commit(note("a"), note("b"), note("c", "bob"), note("d", null));
    const { a, b, c, d } = await idsOf(here);
    const patch = (id: string, set: Record<string, string>): Write => {
      return { op: "patch", table: "notes", at: { id }, set };
    };
    await here.commit(patch(a!, { owner: "bob" }), { op: "delete", table: "notes", at: { id: b! } });
    await here.commit(patch(c!, { text: "c" })); // as it is: nothing is written
    expect(await here.all("notes_changes")).toEqual([
      { owner: "ada", ids: [a, b] },
      { owner: "bob", ids: [c] },
      { ids: [d] },
      { owner: "ada", ids: [a, b] },
      { owner: "bob", ids: [a] },
    ]);
  });

  it("tells what has changed since a version, and what has gone", async () => {
    const here = deployment();
    await here.commit(note("a"), note("b"), note("c"), note("z", "bob"));
    const known = await version(here);
    const { a, b, c } = await idsOf(here);
    await here.commit(
      { op: "patch", table: "notes", at: { id: a! }, set: { text: "A" } },
      { op: "patch", table: "notes", at: { id: b! }, set: { owner: "bob" } },
      { op: "delete", table: "notes", at: { id: c! } },
      note("d"),
      note("e", "bob"),
    );
    expect(await version(here)).not.toEqual(known);
    const { docs, digests, gone } = await since(here, known);
    expect(docs).toEqual([]);
    expect(digests!.map(([id]) => id)).toEqual([a, (await idsOf(here))["d"]]);
    expect(new Set(gone)).toEqual(new Set([b, c]));
    const now = await version(here);
    expect(await since(here, now)).toMatchObject({ digests: [], gone: [] });
  });

  it("stays at a version while others' documents change", async () => {
    const here = deployment();
    await here.commit(note("a"), note("b", null));
    const [known, without] = [await version(here), await version(here, { ...whole, eq: [missing] })];
    await here.commit(note("c", "bob"), { op: "insert", table: "items", doc: {} });
    expect(await version(here)).toEqual(known);
    expect(await version(here, { ...whole, eq: [missing] })).toEqual(without);
    await here.commit(note("d", null));
    expect(await version(here)).toEqual(known);
    expect(await version(here, { ...whole, eq: [missing] })).not.toEqual(without);
  });

  it("costs what has changed, not what there is", async () => {
    const here = deployment();
    await here.commit(...Array.from({ length: 300 }, (_, n) => note(`n${n}`)));
    vi.advanceTimersByTime(120_000);
    await here.commit(note("x"));
    const known = await version(here);
    vi.advanceTimersByTime(120_000);
    await here.commit(note("y"));
    // the last row, the rows of the last minute, the newest note
    expect(await cost(() => version(here))).toEqual({ read: 3, written: 0 });
    // rows from a minute before the last one known, the newest note, the one that is new
    expect(await cost(() => since(here, known))).toEqual({ read: 4, written: 0 });
  });

  it("finds a row that came to be seen after later ones", async () => {
    const here = deployment();
    vi.setSystemTime(Date.now() + 50_000);
    await here.commit(note("a"));
    const known = await version(here);
    vi.setSystemTime(Date.now() - 40_000); // began before, was applied after
    await here.commit(note("late"));
    expect(await version(here)).not.toEqual(known);
    expect((await since(here, known)).digests!.map(([id]) => id)).toEqual([(await idsOf(here))["late"]]);
  });

  const everything = async (here: Deployment, found: Result) => {
    const { digests, gone } = found;
    expect(gone).toBeUndefined();
    const [ours] = await here.read({ ...whole, digest: "each" });
    expect(digests).toEqual(ours!.digests);
    expect(digests!.length).toBeGreaterThan(1);
  };

  it("answers everything when the rows known have been swept", async () => {
    const here = deployment();
    await here.commit(note("a"));
    const known = await version(here);
    vi.advanceTimersByTime(25 * 60 * 60_000);
    await here.commit(note("b"));
    await here.backend.mutation(makeFunctionReference<"mutation">("orm:sweep"), {});
    expect(await here.all("notes_changes")).toHaveLength(1);
    await everything(here, await since(here, known));
  });

  it("is no help where there is no row: the digest is that of the contents", async () => {
    const here = deployment();
    await here.backend.run(async ({ db }) => void (await db.insert("notes" as never, { owner: "ada", text: "a" } as never)));
    const [found] = await here.read({ ...whole, digest: "all" });
    expect(found).toMatchObject({ count: 1, digest: expect.any(String) as string });
    expect(found).not.toHaveProperty("version");
  });

  it("answers everything when a document has come past it", async () => {
    const here = deployment();
    await here.commit(note("a"));
    const known = await version(here);
    vi.advanceTimersByTime(1_000);
    await here.backend.run(async ({ db }) => void (await db.insert("notes" as never, { owner: "ada", text: "b" } as never)));
    expect(await version(here)).not.toEqual(known);
    await everything(here, await since(here, known));
  });

  it("answers everything when more has changed than is told one by one", async () => {
    const here = deployment();
    await here.commit(note("a"));
    const known = await version(here);
    await here.commit(...Array.from({ length: 2_001 }, (_, n) => note(`n${n}`)));
    await everything(here, await since(here, known));
  });

  it.each(["", "[]", "nothing", '["x"]', "[1,2,3]"])("answers everything for %s, which is no version of it", async (known) => {
    const here = deployment();
    await here.commit(note("a"), note("b"));
    await everything(here, await since(here, known));
  });

  it.each([
    ["a bound", { lower: { value: is("a"), inclusive: true }, index: "by_owner_text" }],
    ["a filter", { filter: { op: "eq", field: "text", value: is("a") } }],
    ["a limit", { limit: 1 }],
    ["documents to skip", { skip: 1 }],
    ["other equalities", { eq: [] }],
  ] as [string, Partial<Read>][])("does not speak for a read with %s", async (_name, more) => {
    const here = deployment();
    await here.commit(note("a"), note("b"));
    expect((await here.read({ ...whole, ...more, digest: "all" }))[0]).not.toHaveProperty("version");
  });

  it("speaks for an index that goes on behind its fields", async () => {
    const here = deployment();
    await here.commit(note("b"), note("a"));
    const read = { ...whole, index: "by_owner_text" };
    const known = await version(here, read);
    await here.commit(note("c"));
    const { digests } = await since(here, known, read);
    expect(digests).toHaveLength(1);
    expect((await here.read({ ...whole }))[0]!.docs.map(plain).map(({ text }) => text)).toEqual(["b", "a", "c"]);
  });
});
