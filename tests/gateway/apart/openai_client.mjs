// Ask by OpenAI's SDK what standard input tells, and print what it gives as JSON.
//
// {"call": "chat" | "responses" | "embeddings" | "final", "asked": {...}}; "final" has the SDK
// put a stream together. Where to ask and with what key is told by the environment.
import { text } from "node:stream/consumers";
import OpenAI from "openai";

const { call, asked } = JSON.parse(await text(process.stdin));
const client = new OpenAI({ maxRetries: 0 });
const calls = {
  chat: () => client.chat.completions.create(asked),
  responses: () => client.responses.create(asked),
  embeddings: () => client.embeddings.create(asked),
  final: () => client.chat.completions.stream(asked).finalChatCompletion(),
};

try {
  let answer = await calls[call]();
  if (asked.stream && call !== "final") {
    const chunks = [];
    for await (const chunk of answer) chunks.push(chunk);
    answer = chunks;
  }
  console.log(JSON.stringify(answer));
} catch (error) {
  if (!(error instanceof OpenAI.APIError)) throw error;
  console.log(JSON.stringify({ name: error.name, status: error.status, error: error.error }));
}
