// A user's program in JavaScript. Prints the same JSON object as chat.py.
//   node chat.mjs http://127.0.0.1:8080/v1
import OpenAI from "openai";
import { VERSION } from "openai/version";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const ask = { model: "assistant@v2", messages: [{ role: "user", content: "Count from 1 to 9." }] };
const whole = await client.chat.completions.create(ask);
let streamed = "";
for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}
const models = [];
for await (const model of client.models.list()) models.push(model.id);
let error = "";
try {
  await client.chat.completions.create({ ...ask, model: "none" });
} catch (refused) {
  error = refused.code;
}
console.log(JSON.stringify({ package: VERSION, whole: whole.choices[0].message.content, streamed, models, error }));
