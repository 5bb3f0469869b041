import { v } from "convex/values";
import schema from "./schema";

const { users, channels, messages } = schema.tables;

/** What the documents of each table are, for what functions answer. */
export const documents = {
  users: v.object({ _id: v.id("users"), _creationTime: v.number(), ...users.validator.fields }),
  channels: v.object({ _id: v.id("channels"), _creationTime: v.number(), ...channels.validator.fields }),
  messages: v.object({ _id: v.id("messages"), _creationTime: v.number(), ...messages.validator.fields }),
};
