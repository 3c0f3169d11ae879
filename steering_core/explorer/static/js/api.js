// The server's JSON, and its streams.

const TAB = Math.random().toString(36).slice(2) + Date.now().toString(36);
const HEADERS = { "x-steerflow-tab": TAB };

async function answered(answer) {
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Error(told.error?.message ?? `the server answered ${answer.status}`);
}

/** What a GET gives; parameters that are undefined are left out. */
export async function get(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null);
  const query = new URLSearchParams(given).toString();
  const url = path + (query && `?${query}`);
  const early = globalThis.early.get(url);
  globalThis.early.delete(url);
  return (await answered(await (early ?? fetch(url, { headers: HEADERS })))).json();
}

function posted(path, body, signal) {
  const headers = { ...HEADERS, "content-type": "application/json" };
  return fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

/** What a POST gives. */
export async function post(path, body) {
  return (await answered(await posted(path, body))).json();
}

/** A file that a POST gives, and, where there was more than it holds, how many rows it has. */
export async function file(path, body) {
  const answer = await answered(await posted(path, body));
  return { blob: await answer.blob(), cut: answer.headers.get("x-steerflow-cut") };
}

/** The server-sent events of a POST, as they come. Aborting the signal closes the connection, which frees the work. */
export async function* stream(path, body, signal) {
  const answer = await answered(await posted(path, body, signal));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
  }
}
