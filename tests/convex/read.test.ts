import { getDocumentSize, type Value } from "convex/values";
import { describe, expect, it } from "vitest";
import type { Bound, Filter, Order, Read, Result } from "../../convex/orm/protocol";
import { rangesOf } from "../../convex/orm/range";
import { cost, deployment, is, missing, plain, refusal, type Deployment } from "./support";

/** Values of every type in Convex's order; the first is a missing field. */
const ORDERED: (Value | undefined)[] = [
  undefined,
  null,
  -300n,
  -1n,
  0n,
  7n,
  2n ** 40n,
  -Infinity,
  -1.5,
  -0,
  0,
  1.5,
  NaN,
  false,
  true,
  "",
  "a",
  "a\u0000b",
  "ab",
  "\uffff",
  "😀",
  new Uint8Array([1]).buffer,
  new Uint8Array([1, 0]).buffer,
  [],
  [1],
  [1, 2],
  {},
  { a: 1 },
  { a: 2 },
];

const boundOf = (value: Value | undefined): Bound => (value === undefined ? [] : [value]);

function shuffled<T>(values: readonly T[]): T[] {
  return values
    .map((value, position) => [(position * 17) % values.length, value] as const)
    .sort((a, b) => a[0] - b[0])
    .map(([, value]) => value);
}

/** A deployment that holds one item for each value, with its place in the order as `place`. */
async function ordered(): Promise<Deployment> {
  const here = deployment();
  const docs = ORDERED.map((rank, place): Record<string, Value> => (rank === undefined ? { place } : { place, rank }));
  await here.insert("items", ...shuffled(docs));
  return here;
}

const places = (result: Result | undefined) => result!.docs.map((doc) => doc["place"]);
const upTo = (length: number) => Array.from({ length }, (_, position) => position);

/** Reads page after page behind the last document's key until nothing is left. */
async function paged(here: Deployment, read: Read, keyFields: string[], size: number) {
  const found: Value[] = [];
  let after: Bound[] = [];
  for (;;) {
    const [result] = await here.read({ ...read, after, limit: size, peek: true });
    found.push(...places(result).map((place) => place!));
    if (!result!.more) return found;
    const last = result!.docs.at(-1)!;
    after = keyFields.map((field) => boundOf(last[field]));
  }
}

describe("a range", () => {
  it("has Convex's order over values of all types, in both directions", async () => {
    const here = await ordered();
    const [forward, back] = await here.read(
      { table: "items", index: "by_rank" },
      { table: "items", index: "by_rank", order: "desc" },
    );
    expect(places(forward)).toEqual(upTo(ORDERED.length));
    expect(places(back)).toEqual(upTo(ORDERED.length).reverse());
  });

  it("ends at its edges, whatever the types of the edges", async () => {
    const here = await ordered();
    for (const [low, high] of [
      [0, 4],
      [3, 9],
      [12, 20],
      [21, 28],
    ] as const) {
      const edges = (inclusive: boolean) => ({
        lower: { value: boundOf(ORDERED[low]), inclusive },
        upper: { value: boundOf(ORDERED[high]), inclusive },
      });
      const [closed, open] = await here.read(
        { table: "items", index: "by_rank", ...edges(true) },
        { table: "items", index: "by_rank", ...edges(false) },
      );
      expect(places(closed)).toEqual(upTo(ORDERED.length).slice(low, high + 1));
      expect(places(open)).toEqual(upTo(ORDERED.length).slice(low + 1, high));
    }
  });

  it("tells a missing field from null", async () => {
    const here = await ordered();
    const [absent, nothing] = await here.read(
      { table: "items", index: "by_rank", eq: [missing] },
      { table: "items", index: "by_rank", eq: [is(null)] },
    );
    expect([places(absent), places(nothing)]).toEqual([[0], [1]]);
  });

  it("is not opened when its edges cross", () => {
    const crossed: Read = {
      table: "items",
      index: "by_rank",
      lower: { value: is(5), inclusive: true },
      upper: { value: is(5), inclusive: false },
    };
    expect(rangesOf(crossed, ["rank", "_creationTime", "_id"])).toEqual([]);
  });

  it("reaches into objects by dotted index fields", async () => {
    const here = deployment();
    await here.insert(
      "items",
      { meta: { kind: "b" }, place: 1 },
      { meta: { kind: "a" }, place: 0 },
      { meta: 3, place: 2 },
    );
    const [all, one] = await here.read(
      { table: "items", index: "by_kind" },
      { table: "items", index: "by_kind", eq: [is("b")] },
    );
    expect(places(all)).toEqual([2, 0, 1]);
    expect(places(one)).toEqual([1]);
  });
});

describe("after", () => {
  const KEY = ["owner", "rank", "_creationTime", "_id"];

  it.each<Order>(["asc", "desc"])("goes on behind a key without gaps or repeats, ties included (%s)", async (order) => {
    const here = deployment();
    const docs = upTo(40).map((place) => ({
      place,
      owner: `o${place % 3}`,
      ...(place % 4 ? { rank: place % 4 } : {}),
    }));
    await here.insert("items", ...docs);
    const reads: Read[] = [
      { table: "items", index: "by_owner", order },
      { table: "items", index: "by_owner", order, eq: [is("o1")] },
      { table: "items", index: "by_owner", order, eq: [is("o1"), is(2)] },
      { table: "items", index: "by_owner", order, lower: { value: is("o1"), inclusive: true } },
      {
        table: "items",
        index: "by_owner",
        order,
        eq: [is("o2")],
        lower: { value: is(1), inclusive: true },
        upper: { value: is(3), inclusive: false },
      },
      { table: "items", index: "by_owner", order, eq: [is("o0")], upper: { value: is(2), inclusive: true } },
    ];
    for (const read of reads) {
      const [whole] = await here.read(read);
      expect(whole!.docs.length).toBeGreaterThan(0);
      for (const size of [1, 3]) expect(await paged(here, read, KEY, size)).toEqual(places(whole));
    }
  });

  it("may be a key that no document has, inside or outside of the range", async () => {
    const here = deployment();
    await here.insert("items", ...upTo(6).map((place) => ({ place, owner: "o", rank: place })));
    const behind = async (owner: string, rank: number, order: Order, bounds: Partial<Read> = {}) => {
      const after = [is(owner), is(rank), is(0), is("")];
      const [result] = await here.read({ table: "items", index: "by_owner", eq: [is("o")], order, after, ...bounds });
      return places(result);
    };
    expect(await behind("o", 2.5, "asc")).toEqual([3, 4, 5]);
    expect(await behind("o", 2.5, "desc")).toEqual([2, 1, 0]);
    expect(await behind("n", 2.5, "asc")).toEqual([0, 1, 2, 3, 4, 5]);
    expect(await behind("n", 2.5, "desc")).toEqual([]);
    expect(await behind("p", 2.5, "asc")).toEqual([]);
    expect(await behind("p", 2.5, "desc")).toEqual([5, 4, 3, 2, 1, 0]);
    expect(await behind("o", 0.5, "asc", { lower: { value: is(3), inclusive: false } })).toEqual([4, 5]);
    expect(await behind("o", 1, "asc", { lower: { value: is(3), inclusive: false } })).toEqual([4, 5]);
    expect(await behind("o", 4.5, "asc", { upper: { value: is(3), inclusive: true } })).toEqual([]);
    expect(await behind("o", 4.5, "desc", { upper: { value: is(3), inclusive: true } })).toEqual([3, 2, 1, 0]);
  });

  it("stays valid when the document it came from is gone", async () => {
    const here = deployment();
    await here.insert("items", ...upTo(4).map((place) => ({ place, rank: 1 })));
    const [first] = await here.read({ table: "items", index: "by_rank", limit: 2 });
    const last = first!.docs[1]!;
    await here.commit({ op: "delete", table: "items", at: { id: last._id } });
    const after = [is(1), is(last._creationTime), is(last._id)];
    expect(places((await here.read({ table: "items", index: "by_rank", after }))[0])).toEqual([2, 3]);
  });
});

describe("a filter", () => {
  const DOCS: Record<string, Value>[] = [
    { place: 0 },
    { place: 1, x: null },
    { place: 2, x: 1 },
    { place: 3, x: true },
    { place: 4, x: "1" },
    { place: 5, x: { y: [10, { z: "deep" }] } },
    { place: 6, x: '{"y": [10, {"z": "deep"}], "n": null}' },
    { place: 7, x: "{not json" },
    { place: 8, x: -0 },
  ];

  async function matching(filter: Filter) {
    const here = deployment();
    await here.insert("items", ...DOCS);
    return places((await here.read({ table: "items", index: "by_creation_time", filter }))[0]);
  }

  it.each<[string, Filter, number[]]>([
    ["eq keeps types apart", { op: "eq", field: "x", value: is(1) }, [2]],
    ["eq missing", { op: "eq", field: "x", value: missing }, [0]],
    ["ne", { op: "ne", field: "x", value: is(1) }, [0, 1, 3, 4, 5, 6, 7, 8]],
    ["lt holds for missing and lower types", { op: "lt", field: "x", value: is(1) }, [0, 1, 8]],
    ["lte", { op: "lte", field: "x", value: is(1) }, [0, 1, 2, 8]],
    ["gt holds for higher types", { op: "gt", field: "x", value: is("1") }, [5, 6, 7]],
    ["gte", { op: "gte", field: "x", value: is("1") }, [4, 5, 6, 7]],
    ["the zeros differ", { op: "eq", field: "x", value: is(0) }, []],
    ["in", { op: "in", field: "x", values: [is("1"), missing, is(true), is(-0)] }, [0, 3, 4, 8]],
    ["in nothing", { op: "in", field: "x", values: [] }, []],
    ["and of none", { op: "and", args: [] }, [0, 1, 2, 3, 4, 5, 6, 7, 8]],
    ["or of none", { op: "or", args: [] }, []],
    ["not", { op: "not", arg: { op: "lt", field: "place", value: is(7) } }, [7, 8]],
    [
      "and, or",
      {
        op: "and",
        args: [
          {
            op: "or",
            args: [
              { op: "eq", field: "place", value: is(2) },
              { op: "eq", field: "place", value: is(3) },
            ],
          },
          { op: "eq", field: "x", value: is(true) },
        ],
      },
      [3],
    ],
    [
      "a path walks values and JSON text alike",
      { op: "eq", field: "x", path: ["y", 1, "z"], value: is("deep") },
      [5, 6],
    ],
    ["null in JSON text", { op: "eq", field: "x", path: ["n"], value: is(null) }, [6]],
    ["steps that do not fit are missing", { op: "ne", field: "x", path: ["y", "1"], value: missing }, []],
    ["an inherited name is missing", { op: "ne", field: "x", path: ["constructor"], value: missing }, []],
    ["a string is a string without a path", { op: "eq", field: "x", value: is("{not json") }, [7]],
  ])("%s", async (_name, filter, expected) => {
    expect(await matching(filter)).toEqual(expected);
  });
});

describe("skip, limit, peek and count", () => {
  it("reads exactly the documents it needs", async () => {
    const here = deployment();
    await here.insert("items", ...upTo(50).map((place) => ({ place, rank: place })));
    const read = (more: Partial<Read>): Read => ({ table: "items", index: "by_rank", ...more });
    expect(await cost(() => here.read(read({ limit: 20 })))).toMatchObject({ read: 20 });
    expect(await cost(() => here.read(read({ limit: 20, peek: true })))).toMatchObject({ read: 21 });
    expect(await cost(() => here.read(read({ skip: 5, limit: 20 })))).toMatchObject({ read: 25 });
    expect(await cost(() => here.read(read({ limit: 0 })))).toMatchObject({ read: 0 });
    expect(await cost(() => here.read(read({ eq: [is("none")] })))).toMatchObject({ read: 0 });
  });

  it("answers what lies between skip and limit and says whether there is more", async () => {
    const here = deployment();
    await here.insert("items", ...upTo(10).map((place) => ({ place, rank: place })));
    const filter: Filter = { op: "gte", field: "place", value: is(2) };
    const read: Read = { table: "items", index: "by_rank", filter, skip: 3, limit: 2, peek: true };
    const [some, last, counted] = await here.read(read, { ...read, limit: 5 }, { ...read, limit: 9, count: true });
    expect(places(some)).toEqual([5, 6]);
    expect(some).toMatchObject({ count: 2, skipped: 3, more: true, next: null });
    expect(last).toMatchObject({ count: 5, skipped: 3, more: false, next: null });
    expect(counted).toEqual({ docs: [], count: 5, skipped: 3, more: false, next: null });
  });
});

describe("the budget of a call", () => {
  const BIG = "x".repeat(200_000);

  it("ends a read after 8 MiB; it goes on where it stopped", async () => {
    const here = deployment();
    for (const owner of ["a", "b"]) {
      await here.insert("items", ...upTo(30).map((place) => ({ place, owner, rank: place % 7, text: BIG })));
    }
    const size = getDocumentSize(await here.one("items"));
    const [whole, after] = await here.read({ table: "items", index: "by_owner" }, { table: "items", index: "by_rank" });
    expect(whole!.docs).toHaveLength(Math.ceil((8 << 20) / size));
    expect(whole!.next).toHaveLength(4);
    expect(after).toEqual({ docs: [], count: 0, skipped: 0, more: false, next: [] });

    const found = [...whole!.docs];
    for (let next = whole!.next; next !== null;) {
      const [rest] = await here.read({ table: "items", index: "by_owner", after: next });
      found.push(...rest!.docs);
      next = rest!.next;
    }
    expect(found.map((doc) => [doc["owner"], doc["rank"]])).toEqual(
      ["a", "b"].flatMap((owner) =>
        upTo(30)
          .map((place) => [owner, place % 7])
          .sort((x, y) => Number(x[1]) - Number(y[1])),
      ),
    );
    expect(new Set(found.map((doc) => doc._id)).size).toBe(60);
  });

  it("ends after a million values in them, however few bytes they have", async () => {
    const here = deployment();
    const list = Array.from({ length: 8_000 }, (_, n) => n % 2 === 0);
    for (let chunk = 0; chunk < 2; chunk++) await here.insert("items", ...upTo(70).map((place) => ({ place, list })));
    const read: Read = { table: "items", index: "by_creation_time", digest: "each" };
    const [first] = await here.read(read);
    expect(first!.count).toBe(Math.ceil(2 ** 20 / (8_000 + 2 + 3 + 6)));
    const [second] = await here.read({ ...read, after: first!.next! });
    expect([first!.count + second!.count, second!.next]).toEqual([140, null]);
    await here.insert("items", ...upTo(90).map((place) => ({ place, rank: 1, list: list.slice(2_000).map(() => ({})) })));
    const [objects] = await here.read({ table: "items", index: "by_rank", eq: [is(1)], count: true });
    expect(objects!.count).toBe(Math.ceil(2 ** 20 / (6 * 6_000 + 2 + 4 + 6)));
  });

  it("ends a count after 8,000 documents; skip and limit less what was done go on", async () => {
    const here = deployment();
    for (let chunk = 0; chunk < 3; chunk++)
      await here.insert("items", ...upTo(3_000).map((place) => ({ place, rank: 1 })));
    const read: Read = { table: "items", index: "by_rank", skip: 100, limit: 8_500, count: true, peek: true };
    const [first] = await here.read(read);
    expect(first).toMatchObject({ count: 7_900, skipped: 100, more: false });
    const [second] = await here.read({ ...read, after: first!.next!, skip: 0, limit: 8_500 - 7_900 });
    expect(second).toMatchObject({ count: 600, skipped: 0, more: true, next: null });
  });
});

describe("a read is refused", () => {
  const read = (more: Record<string, unknown>) => ({
    version: 4,
    reads: [{ table: "items", index: "by_rank", fields: ["rank"], ...more }],
  });

  it.each<[string, Record<string, unknown>, Record<string, unknown>]>([
    ["in another version", { version: 1, reads: [] }, { code: "Version", supported: 4 }],
    ["without a version", { reads: [] }, { code: "Invalid" }],
    ["when it reads nothing", { version: 4, reads: [] }, { code: "Invalid" }],
    [
      "over 1,024 reads",
      { version: 4, reads: upTo(1_025) },
      { code: "Limit", limit: "reads", maximum: 1_024, actual: 1_025 },
    ],
    ["with a field it does not know", read({ colour: "red" }), { code: "Invalid" }],
    ["with a limit that is not whole", read({ limit: 1.5 }), { code: "Invalid" }],
    ["that counts and packs", read({ count: true, pack: { field: "x", length: 1 } }), { code: "Invalid" }],
    ["that digests and peeks", read({ digest: "all", peek: true }), { code: "Invalid" }],
    ["that packs and digests", read({ digest: "each", pack: { field: "x", length: 1 } }), { code: "Invalid" }],
    ["with a negative skip", read({ skip: -1 }), { code: "Invalid" }],
    ["with a bound of two", read({ eq: [[1, 2]] }), { code: "Invalid" }],
    ["with an unknown filter", read({ filter: { op: "resembles", field: "x", value: [] } }), { code: "Invalid" }],
    ["of an unknown table", read({ table: "nope" }), { code: "UnknownTable", table: "nope" }],
    ["of a table named like an object's own", read({ table: "constructor" }), { code: "UnknownTable" }],
    ["of an unknown index", read({ index: "by_nope" }), { code: "UnknownIndex", table: "items", index: "by_nope" }],
    [
      "of an index with other fields",
      read({ index: "by_owner", fields: ["rank", "owner"] }),
      {
        code: "OtherIndex",
        table: "items",
        index: "by_owner",
        assumed: ["rank", "owner"],
        deployed: ["owner", "rank"],
      },
    ],
    ["of an index without its fields", read({ fields: undefined }), { code: "OtherIndex", assumed: [], deployed: ["rank"] }],
    ["of a built-in index with fields", read({ index: "by_id" }), { code: "OtherIndex", assumed: ["rank"], deployed: [] }],
    [
      "with too many equalities",
      read({ eq: [[1], [2], [3], [4]] }),
      { code: "BadRange", table: "items", index: "by_rank" },
    ],
    [
      "with a bound after the last field",
      read({ eq: [[1], [2], [3]], lower: { value: [1], inclusive: true } }),
      { code: "BadRange" },
    ],
    ["with a key of another length", read({ after: [[1]] }), { code: "BadRange" }],
  ])("%s", async (_name, request, expected) => {
    expect(await refusal(deployment().query(request))).toMatchObject(expected);
  });
});

it("reads through by_id and by_creation_time", async () => {
  const here = deployment();
  await here.insert("items", { place: 0 }, { place: 1 });
  const doc = await here.one("items");
  const [byId, byTime] = await here.read(
    { table: "items", index: "by_id", eq: [is(doc._id)] },
    { table: "items", index: "by_creation_time", lower: { value: is(doc._creationTime), inclusive: false } },
  );
  expect(byId!.docs).toEqual([doc]);
  expect(byTime!.docs.map(plain)).toEqual([{ place: 1 }]);
});

describe("a share of a call's budget", () => {
  it("ends the call that many times earlier, down to one document", async () => {
    const here = await ordered();
    const counted = async (share: number) => {
      const request = { version: 4, reads: [{ table: "items", index: "by_creation_time" }], share };
      const [result] = (await here.query(request)).results as Result[];
      return [result!.count, result!.next === null];
    };
    expect(await counted(1)).toEqual([ORDERED.length, true]);
    expect(await counted(800)).toEqual([10, false]);
    expect(await counted(8_192)).toEqual([1, false]);
    for (const share of [0, 8_193, 1.5, "1"]) {
      const request = { version: 4, reads: [{ table: "items", index: "by_creation_time" }], share };
      expect(await refusal(here.query(request))).toMatchObject({ code: "Invalid" });
    }
  });
});
