/**
 * An agent with memory on the npm store has a conversation. What its language model says is part of the input, what its
 * language model was told is the answer: the prompt of each call, in order. The conversation begins when the input says.
 */
import { Agent } from "@mastra/core/agent";
import { MastraLanguageModelV2Mock, simulateReadableStream } from "@mastra/core/test-utils/llm-mock";
import { ConvexStore } from "@mastra/convex";
import { Memory } from "@mastra/memory";
import { main, type Place } from "./program";

interface Input extends Place {
  resourceId: string;
  /** The instant at which the program's clock starts, as text. */
  now: string;
  lastMessages: number;
  turns: Turn[];
}

interface Turn {
  threadId: string;
  user: string;
  /** One for each call of the language model. */
  replies: Reply[];
  /** Whether the answer is streamed. */
  streamed?: boolean;
}

type Reply = string | { tool: string; input: Record<string, unknown> };

type Config = ConstructorParameters<typeof MastraLanguageModelV2Mock>[0];
type Generated = Extract<Config["doGenerate"], { content: unknown }>;
type Part = Extract<Config["doStream"], { stream: unknown }>["stream"] extends ReadableStream<infer P> ? P : never;

const usage = { inputTokens: 1, outputTokens: 1, totalTokens: 2 };

/** A language model that says its lines one after the other, and keeps what it was told. */
function scripted(replies: Reply[], prompts: unknown[]): MastraLanguageModelV2Mock {
  function next(prompt: unknown) {
    const reply = replies[prompts.push(prompt) - 1];
    if (reply === undefined) throw new Error("the language model was called once more than it has lines");
    if (typeof reply === "string") return { text: reply, finishReason: "stop" as const };
    const call = { toolCallId: `call ${prompts.length}`, toolName: reply.tool, input: JSON.stringify(reply.input) };
    return { call: { type: "tool-call" as const, ...call }, finishReason: "tool-calls" as const };
  }

  return new MastraLanguageModelV2Mock({
    doGenerate: async ({ prompt }): Promise<Generated> => {
      const { text, call, finishReason } = next(prompt);
      return { content: [call ?? { type: "text", text }], finishReason, usage, warnings: [] };
    },
    doStream: async ({ prompt }) => {
      const { text, call, finishReason } = next(prompt);
      const deltas = (text ?? "").split(/(?<= )/).map((delta): Part => ({ type: "text-delta", id: "1", delta }));
      const said: Part[] = call ? [call] : [{ type: "text-start", id: "1" }, ...deltas, { type: "text-end", id: "1" }];
      const parts: Part[] = [{ type: "stream-start", warnings: [] }, ...said, { type: "finish", finishReason, usage }];
      return { stream: simulateReadableStream({ chunks: parts }) };
    },
  });
}

/** Dates of now are counted from an instant, whatever the machine's clock says. */
function startClock(now: string): void {
  const ahead = Date.parse(now) - Date.now();
  globalThis.Date = class extends Date {
    constructor(...given: [] | [number | string | Date]) {
      super(...((given.length ? given : [Date.now()]) as [number]));
    }

    static override now = ((real) => () => real() + ahead)(Date.now);
  } as DateConstructor;
}

await main<Input>(async ({ resourceId, now, lastMessages, turns, ...place }) => {
  startClock(now);
  const prompts: unknown[] = [];
  const agent = new Agent({
    id: "guide",
    name: "Guide",
    instructions: "You are a guide to a city.",
    model: scripted(turns.flatMap(({ replies }) => replies), prompts),
    memory: new Memory({
      storage: new ConvexStore({ id: "npm", ...place }),
      options: {
        lastMessages,
        semanticRecall: false,
        workingMemory: { enabled: true, scope: "resource", template: "# Traveller\n- Name:\n- Likes:" },
      },
    }),
  });
  const answers: string[] = [];
  for (const { threadId, user, streamed } of turns) {
    const memory = { thread: threadId, resource: resourceId };
    if (streamed) answers.push(await (await agent.stream(user, { memory })).text);
    else answers.push((await agent.generate(user, { memory })).text);
  }
  return { answers, prompts };
});
