/**
 * A workflow that asks a person and waits. Its runs are begun, resumed, loaded and listed, as the input says; what the
 * workflow answers each time is the answer.
 */
import { Mastra } from "@mastra/core";
import { createStep, createWorkflow } from "@mastra/core/workflows";
import { ConvexStore } from "@mastra/convex";
import { main, type Place } from "./program";

interface Input extends Place {
  workflowId: string;
  actions: Action[];
}

type Action =
  | { begin: string; resourceId: string; inputData: Trip }
  | { resume: string; resumeData: unknown }
  | { load: string }
  | { list: { status?: "suspended" | "success"; resourceId?: string } };

interface Trip {
  city: string;
  nights: number;
}

interface Offer {
  city: string;
  price: number;
}

const trip = { type: "object", properties: { city: { type: "string" }, nights: { type: "number" } } } as const;
const offer = { type: "object", properties: { city: { type: "string" }, price: { type: "number" } } } as const;
const approval = { type: "object", properties: { approved: { type: "boolean" }, by: { type: "string" } } } as const;
const outcome = { type: "object" } as const;

const price = createStep({
  id: "price",
  inputSchema: trip,
  outputSchema: offer,
  execute: async ({ inputData }) => {
    const { city, nights } = inputData as Trip;
    return { city, price: nights * 120 };
  },
});

const approve = createStep({
  id: "approve",
  inputSchema: offer,
  outputSchema: outcome,
  resumeSchema: approval,
  suspendSchema: outcome,
  execute: async ({ inputData, resumeData, suspend }) => {
    const { city, price } = inputData as Offer;
    if (resumeData) return { city, price, ...(resumeData as object) };
    const odd = { $schema: "approval", 日本語: { "": [0, false, null, ""] } };
    return suspend({ question: `Is ${city} for ${price} fine?`, ...odd });
  },
});

await main<Input>(async ({ workflowId, actions, ...place }) => {
  const booking = createWorkflow({ id: workflowId, inputSchema: trip, outputSchema: outcome })
    .then(price)
    .then(approve)
    .commit();
  const storage = new ConvexStore({ id: "npm", ...place });
  const workflow = new Mastra({ workflows: { booking }, storage, logger: false }).getWorkflow("booking");
  const workflows = (await storage.getStore("workflows"))!;
  const answers: unknown[] = [];
  for (const action of actions) {
    if ("begin" in action) {
      const run = await workflow.createRun({ runId: action.begin, resourceId: action.resourceId });
      answers.push(await run.start({ inputData: action.inputData }));
    } else if ("resume" in action) {
      const run = await workflow.createRun({ runId: action.resume });
      answers.push(await run.resume({ step: "approve", resumeData: action.resumeData }));
    } else if ("load" in action) {
      answers.push(await workflows.loadWorkflowSnapshot({ workflowName: workflowId, runId: action.load }));
    } else {
      answers.push(await workflow.listWorkflowRuns(action.list));
    }
  }
  return answers;
});
