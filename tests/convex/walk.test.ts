import type { Value } from "convex/values";
import { describe, expect, it } from "vitest";
import type { Bound, Read, Result } from "../../convex/orm/protocol";
import { assuming, cost, deployment, is, refusal, type Deployment } from "./support";

const RANGES = [{ eq: [is("a")] }, { eq: [is("b")], lower: { value: is(2), inclusive: true } }, { eq: [is("d")] }];
const WHOLE = ["a", "b", "c", "d"].map((group) => ({ eq: [is(group)] }));

/** Items of four groups, with ranks that follow each other from group to group. */
async function filled(): Promise<Deployment> {
  const here = deployment();
  const docs = Array.from({ length: 24 }, (_, place): Record<string, Value> => {
    const rank = (place * 7) % 24;
    return { place, rank: rank % 5, owner: "abcd"[place % 4]!, half: rank / 2 };
  });
  await here.insert("items", ...docs);
  return here;
}

/** All that a read answers, one document a call. */
async function bit(here: Deployment, read: Read): Promise<{ results: Result[]; calls: number }> {
  const results: Result[] = [];
  let rest = read;
  for (let calls = 1; ; calls++) {
    const answer = await here.query({ version: 4, reads: [assuming(rest)], share: 8_192 });
    const [result] = answer.results as Result[];
    results.push(result!);
    if (result!.next === null) return { results, calls };
    const limit = rest.limit === undefined ? {} : { limit: rest.limit - result!.count };
    const after = result!.next.length > 0 ? result!.next : (rest.after ?? []);
    rest = { ...rest, after, skip: (rest.skip ?? 0) - result!.skipped, ...limit };
  }
}

const READS: [string, Partial<Read>][] = [
  ["ranges one after the other", { ranges: RANGES }],
  ["ranges backwards", { ranges: RANGES, order: "desc" }],
  ["ranges with a limit behind some", { ranges: RANGES, skip: 3, limit: 6 }],
  ["merged ranges", { ranges: WHOLE, merge: 1 }],
  ["merged ranges backwards", { ranges: WHOLE, merge: 1, order: "desc", skip: 1 }],
  ["distinct values", { distinct: 2 }],
  ["distinct values backwards", { distinct: 1, order: "desc" }],
  ["distinct values of what a filter lets through", { distinct: 1, filter: { op: "gt", field: "rank", value: is(1) } }],
  ["fields of distinct values", { distinct: 1, select: ["owner"] }],
];

describe("a walk", () => {
  it.each(READS)("that is cut after each document goes on with %s", async (_, read) => {
    const here = await filled();
    const whole: Read = { table: "items", index: "by_owner", ...read };
    const [expected] = await here.read(whole);
    const { results, calls } = await bit(here, whole);
    expect(results.flatMap(({ docs }) => docs)).toEqual(expected!.docs);
    expect(expected!.docs.length).toBeGreaterThan(1);
    expect(calls).toBeGreaterThan(1);
  });

  it("merges in the order of the fields behind the equalities, and reads one document more of each range", async () => {
    const here = await filled();
    const read: Read = { table: "items", index: "by_owner", ranges: WHOLE, merge: 1, limit: 3 };
    const [result] = await here.read(read);
    expect(result!.docs.map((doc) => doc["rank"])).toEqual([0, 0, 0]);
    expect((await cost(() => here.read(read))).read).toBeLessThanOrEqual(3 + 4);
  });

  it("reads one document for each distinct value", async () => {
    const here = await filled();
    const read: Read = { table: "items", index: "by_owner", distinct: 1 };
    expect((await here.read(read))[0]!.docs).toHaveLength(4);
    expect((await cost(() => here.read(read))).read).toBe(4);
  });

  const REFUSED: [string, Partial<Read>, string][] = [
    ["ranges that overlap", { ranges: [{ eq: [is("a")] }, { eq: [is("a")], upper: { value: is(1), inclusive: true } }] }, "BadRange"],
    ["ranges out of order", { ranges: [{ eq: [is("b")] }, { eq: [is("a")] }] }, "BadRange"],
    ["ranges beside a range", { ranges: WHOLE, eq: [is("a")] }, "BadRange"],
    ["merged ranges of other equalities", { ranges: [...WHOLE.slice(0, 1), { eq: [is("b"), is(1)] }], merge: 1 }, "BadRange"],
    ["distinct by too many", { distinct: 9 }, "BadRange"],
    ["a count of a sum", { count: true, fold: { by: [], of: [] } }, "Invalid"],
    ["too many ranges", { ranges: Array.from({ length: 3_001 }, (_, place) => ({ eq: [is(place)] as Bound[] })) }, "Limit"],
  ];
  it.each(REFUSED)("refuses %s", async (_, read, code) => {
    const here = deployment();
    const request = here.read({ table: "items", index: "by_owner", ...read });
    expect(await refusal(request)).toMatchObject({ code });
  });
});
