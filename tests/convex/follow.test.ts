import { describe, expect, it } from "vitest";
import type { Follow } from "../../convex/orm/protocol";
import { cost, deployment, is, refusal } from "./support";

const OF_OWNER: Follow = { field: "name", table: "items", index: "by_owner", fields: ["owner", "rank"] };
const ALL = { table: "points", index: "by_creation_time" };

async function filled() {
  const here = deployment();
  await here.insert("points", ...["a", "b", "a"].map((name) => ({ name, at: [1, 0] })));
  await here.insert("items", ...[3, 1, 2].map((rank) => ({ owner: "a", rank })), { owner: "b", rank: 5 });
  return here;
}

describe("edges of a read", () => {
  it("are followed once for each key, in the order of the index", async () => {
    const here = await filled();
    const [result] = await here.read({ ...ALL, follow: [OF_OWNER, { ...OF_OWNER, order: "desc", limit: 1 }] });
    const ranks = (edge: number) =>
      result!.followed![edge]!.groups.map(([key, docs, next]) => [
        key[0],
        docs.map((doc) => (typeof doc === "string" ? "sent" : doc["rank"])),
        next,
      ]);
    expect(ranks(0)).toEqual([
      ["a", [1, 2, 3], null],
      ["b", [5], null],
    ]);
    expect(ranks(1)).toEqual([
      ["a", ["sent"], null],
      ["b", ["sent"], null],
    ]);
  });

  it("read no more than they answer", async () => {
    const here = await filled();
    const used = await cost(() => here.read({ ...ALL, follow: [{ ...OF_OWNER, order: "desc", limit: 1 }] }));
    expect(used).toEqual({ read: 3 + 2, written: 0 });
    const whole = await cost(() => here.read({ ...ALL, follow: [OF_OWNER] }));
    expect(whole).toEqual({ read: 3 + 3 + 1, written: 0 });
  });

  it("are refused along an index that is another", async () => {
    const here = await filled();
    const other = await refusal(here.read({ ...ALL, follow: [{ ...OF_OWNER, fields: ["rank"] }] }));
    expect(other).toMatchObject({ code: "OtherIndex", index: "by_owner", deployed: ["owner", "rank"] });
    const long = { ...OF_OWNER, eq: [is(1), is(2), is(3), is(4)] };
    expect(await refusal(here.read({ ...ALL, follow: [long] }))).toMatchObject({ code: "BadRange" });
  });
});

describe("ties of a commit", () => {
  it("give ids to what refers to documents written before", async () => {
    const here = deployment();
    const [first, second] = await here.commit(
      { op: "insert", table: "items", doc: {} },
      { op: "insert", table: "tasks", doc: { text: "x" }, refs: { item: 0 } },
    );
    expect(first).toEqual([(await here.one("tasks"))["item"], null]);
    expect(second).toHaveLength(2);
  });

  it.each([1, 2, 7])("are refused where they lead to no write before (%i)", async (place) => {
    const here = deployment();
    const commit = here.commit(
      { op: "delete", table: "items", at: { id: "none" }, missing: "skip" },
      { op: "insert", table: "tasks", doc: { text: "x" }, refs: { item: place - 1 } },
    );
    expect(await refusal(commit)).toMatchObject({ code: "Invalid" });
  });
});
