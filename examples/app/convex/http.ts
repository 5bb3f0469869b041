import { httpRouter } from "convex/server";
import { internal } from "./_generated/api";
import { httpAction } from "./_generated/server";

const http = httpRouter();

/** Say something by mail address, as a webhook of a mail service does: `{"channel", "email", "text"}`. */
http.route({
  path: "/say",
  method: "POST",
  handler: httpAction(async (ctx, request) => {
    const { channel, email, text } = (await request.json()) as { channel: string; email: string; text: string };
    const message = await ctx.runMutation(internal.messages.mailed, { channel, email, text });
    return Response.json({ message }, { status: message === null ? 404 : 201 });
  }),
});

export default http;
