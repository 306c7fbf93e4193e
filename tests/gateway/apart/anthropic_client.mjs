// Ask by Anthropic's SDK what standard input tells, and print what it gives as JSON.
//
// {"call": "messages" | "final", "asked": {...}}; "final" has the SDK put a stream together. Where
// to ask and with what key is told by the environment.
import { text } from "node:stream/consumers";
import Anthropic from "@anthropic-ai/sdk";

const { call, asked } = JSON.parse(await text(process.stdin));
const client = new Anthropic({ maxRetries: 0 });
const calls = {
  messages: () => client.messages.create(asked),
  final: () => client.messages.stream(asked).finalMessage(),
};

try {
  let answer = await calls[call]();
  if (asked.stream && call !== "final") {
    const events = [];
    for await (const event of answer) events.push(event);
    answer = events;
  }
  console.log(JSON.stringify(answer));
} catch (error) {
  if (!(error instanceof Anthropic.APIError)) throw error;
  console.log(JSON.stringify({ name: error.name, status: error.status, error: error.error }));
}
