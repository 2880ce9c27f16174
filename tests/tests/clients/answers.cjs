// Makes the calls that it reads as JSON from stdin with the openai package of npm, and prints all that the package gave for each.
// The plan is that of answers.py; calls of other packages are left out.

const { readFileSync } = require("node:fs");
const OpenAI = require("openai").default;

const plan = JSON.parse(readFileSync(0, "utf8"));
const client = new OpenAI({ baseURL: `${plan.base_url}/v1`, apiKey: "none", maxRetries: 0, timeout: 60_000 });

async function answer({ method, arguments: all }) {
  const names = method.split(".");
  const resource = names.slice(0, -1).reduce((found, name) => found[name], client);
  const { extra_headers: headers, ...body } = all;
  const list = names.at(-1) === "list";
  try {
    const got = await (list ? resource.list({ headers }) : resource[names.at(-1)](body, { headers }));
    if (!list && !body.stream) return got;
    const events = [];
    for await (const event of got) events.push(event);
    return events;
  } catch (error) {
    return { error: error.constructor.name, status: error.status, body: error.error };
  }
}

(async () => {
  const answers = [];
  for (const call of plan.calls) if (call.sdk === "openai") answers.push(await answer(call));
  process.stdout.write(JSON.stringify(answers));
})();
