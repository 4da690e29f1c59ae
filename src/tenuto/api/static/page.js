// The plain page: the list of runs and one run, live. Text only ever reaches the document through textContent.
const API = "/api/v1";
const ENDED = new Set(["completed", "failed", "cancelled", "budget_exceeded"]);
const TICKETS = new Set(["approval", "escalation", "unknown_outcome", "integrity"]);
const MAX_EVENTS = 500;
const EVENTS = document.querySelector("meta[name=events]").content.split(" ");
const $ = (id) => document.getElementById(id);

const state = { runs: new Map(), cursor: null, chosen: null, all: null, one: null };

class Refused extends Error {
  constructor(status, problem) {
    const first = (problem.errors || []).map((e) => `${e.place}: ${e.message}${e.hint ? ` (${e.hint})` : ""}`);
    super([problem.title || `The server answered ${status}`, ...first].join("\n"));
    this.status = status;
  }
}

async function call(method, path, body, headers = {}) {
  const options = { method, headers: { Accept: "application/json", ...headers }, credentials: "same-origin" };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  const answer = await fetch(API + path, options);
  const text = await answer.text();
  let data = null;
  try { data = text ? JSON.parse(text) : null; } catch { data = { title: "The answer is not JSON" }; }
  if (!answer.ok) {
    if (answer.status === 401 && path !== "/session") showSignIn();
    throw new Refused(answer.status, data || {});
  }
  return data;
}

const runPath = (id) => `/runs/${encodeURIComponent(id)}`;

function make(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined && text !== null) node.textContent = String(text);
  if (className) node.className = className;
  return node;
}

function alertOf(error) {
  $("alert").textContent = error ? error.message : "";
  $("alert").hidden = !error;
}

const guarded = (work) => async (...args) => {
  try { alertOf(null); await work(...args); } catch (error) { alertOf(error); }
};

function status(node, value) {
  node.textContent = value.replace("_", " ");
  node.className = `status ${/^[a-z_]+$/.test(value) ? value : ""}`;
}

const when = (text) => (text ? new Date(text).toLocaleTimeString([], { hour12: false }) : "");
const shortId = (id) => (id.length > 14 ? `${id.slice(0, 8)}…${id.slice(-4)}` : id);
const pretty = (value) => (value === null || value === undefined ? "" : JSON.stringify(value, null, 2));

// --- signing in ---------------------------------------------------------------------------------------------
function showSignIn() {
  closeStreams();
  $("work").hidden = true;
  $("nav").hidden = true;
  $("sign-in").hidden = false;
  $("live").textContent = "signed out";
  $("secret").focus();
}

async function enter() {
  const code = /^#code=(.+)$/.exec(location.hash);
  if (code) {
    history.replaceState(null, "", "/#/");
    try { await call("POST", "/session", { code: decodeURIComponent(code[1]) }); } catch (error) { alertOf(error); }
  }
  try { await call("GET", "/session"); } catch { showSignIn(); return; }
  $("sign-in").hidden = true;
  $("work").hidden = false;
  $("nav").hidden = false;
  await Promise.all([loadRuns(), loadWorkflows()]);
  followAll();
  await route();
}

$("sign-in-form").addEventListener("submit", guarded(async (event) => {
  event.preventDefault();
  const secret = $("secret").value.trim().replace(/^.*#code=/, "");
  try {
    await call("POST", "/session", { code: secret });
  } catch (error) {
    if (error.status !== 401) throw error;
    await call("POST", "/session", { token: secret });
  }
  $("secret").value = "";
  await enter();
}));

$("out").addEventListener("click", guarded(async () => {
  await call("DELETE", "/session");
  showSignIn();
}));

// --- the list -----------------------------------------------------------------------------------------------
async function loadRuns(more = false) {
  const page = await call("GET", `/runs?limit=50${more && state.cursor ? `&cursor=${encodeURIComponent(state.cursor)}` : ""}`);
  for (const run of page.items) state.runs.set(run.id, run);
  state.cursor = page.next_cursor;
  $("more").hidden = !state.cursor;
  drawRuns();
}

$("more").addEventListener("click", guarded(() => loadRuns(true)));

let drawing = false;
function drawRuns() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    const runs = [...state.runs.values()].sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, 1000);
    $("runs").replaceChildren(...runs.map(runRow));
    $("no-runs").hidden = runs.length > 0;
  });
}

function runRow(run) {
  const row = make("tr");
  row.classList.toggle("chosen", run.id === state.chosen);
  const link = make("a", shortId(run.id), "mono");
  link.href = `#/runs/${encodeURIComponent(run.id)}`;
  link.title = run.id;
  const first = make("td");
  first.append(link);
  if (run.goal) first.append(make("div", run.goal, "quiet"));
  const third = make("td");
  const mark = make("span");
  status(mark, run.status || "");
  third.append(mark);
  row.append(first, make("td", run.workflow), third, make("td", when(run.created_at), "quiet time"));
  row.addEventListener("click", () => { location.hash = `#/runs/${encodeURIComponent(run.id)}`; });
  return row;
}

const STATUS_OF = {
  "run.created": "queued", "run.started": "running", "run.paused": "paused", "run.resumed": "running",
  "run.completed": "completed", "run.failed": "failed", "run.cancelled": "cancelled",
  "run.budget_exceeded": "budget_exceeded", "run.reopened": "running",
};

let refresh = null;
function followAll() {
  if (state.all) state.all.close();
  const source = new EventSource(`${API}/stream`);
  state.all = source;
  source.onopen = () => { $("live").textContent = "live"; };
  source.onerror = () => { $("live").textContent = "reconnecting…"; };
  for (const type of Object.keys(STATUS_OF)) {
    source.addEventListener(type, (message) => {
      const event = JSON.parse(message.data);
      const known = state.runs.get(event.run);
      if (known) {
        known.status = STATUS_OF[type];
        drawRuns();
      } else if (!refresh) {
        refresh = setTimeout(() => { refresh = null; guarded(loadRuns)(); }, 150);
      }
    });
  }
}

// --- starting -----------------------------------------------------------------------------------------------
async function loadWorkflows() {
  const page = await call("GET", "/workflows?limit=200");
  $("workflow").replaceChildren(...page.items.map((item) => {
    const option = make("option", item.name);
    option.value = item.name;
    return option;
  }));
}

$("start-form").addEventListener("submit", guarded(async (event) => {
  event.preventDefault();
  let input;
  try { input = JSON.parse($("input").value || "null"); } catch (error) { throw new Error(`The input is not JSON: ${error.message}`); }
  const body = { workflow: $("workflow").value, input };
  if ($("goal").value) body.goal = $("goal").value;
  const started = await call("POST", "/runs", body, { "Idempotency-Key": newKey() });
  location.hash = `#/runs/${encodeURIComponent(started.id)}`;
}));

const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");

// --- one run ------------------------------------------------------------------------------------------------
async function route() {
  const match = /^#\/runs\/(.+)$/.exec(location.hash);
  if (state.one) state.one.close();
  state.one = null;
  state.chosen = match ? decodeURIComponent(match[1]) : null;
  $("right").hidden = !match;
  drawRuns();
  if (!match) return;
  $("events").replaceChildren();
  await loadRun();
  followOne(state.chosen);
}

window.addEventListener("hashchange", guarded(async () => {
  if (location.hash.startsWith("#code=")) await enter();
  else await route();
}));

async function loadRun() {
  const id = state.chosen;
  if (!id) return;
  const [run, why] = await Promise.all([call("GET", runPath(id)), call("GET", `${runPath(id)}/why`).catch(() => null)]);
  if (id !== state.chosen) return;
  drawRun(run, why);
}

let pending = null;
function soon() {
  if (!pending) pending = setTimeout(() => { pending = null; guarded(loadRun)(); }, 120);
}

function followOne(id) {
  const source = new EventSource(`${API}${runPath(id)}/stream`);
  state.one = source;
  const take = (message) => {
    addEvent(JSON.parse(message.data));
    soon();
  };
  for (const type of EVENTS) source.addEventListener(type, take);
}

function addEvent(event) {
  const line = make("li");
  const { id, run, type, at, step, name, node, ...rest } = event;
  line.append(make("span", when(at), "quiet"), make("span", type));
  const data = pretty(rest.data);
  line.append(make("span", [name || step, data && data !== "{}" ? JSON.stringify(rest.data) : ""].filter(Boolean).join("  "), "mono"));
  line.title = id || "";
  $("events").prepend(line);
  while ($("events").childElementCount > MAX_EVENTS) $("events").lastElementChild.remove();
}

function drawRun(run, why) {
  $("run-title").textContent = `${run.workflow} ${shortId(run.id)}`;
  $("run-title").title = run.id;
  status($("run-status"), run.status);
  const known = state.runs.get(run.id);
  if (known && known.status !== run.status) { known.status = run.status; drawRuns(); }
  const spent = Object.entries((run.budget || {}).spent || {}).filter(([, v]) => typeof v === "number" && v);
  $("run-about").textContent = [
    run.goal, run.replay_of ? `replay of ${shortId(run.replay_of)}` : "", `created ${when(run.created_at)}`,
    run.finished_at ? `finished ${when(run.finished_at)}` : "", ...spent.map(([k, v]) => `${k} ${v}`),
  ].filter(Boolean).join("  ·  ");
  $("run-error").hidden = !run.error;
  $("run-error").textContent = run.error ? `${run.error.code}: ${run.error.message}` : "";
  drawWhy(run, why);
  drawSteps(run);
  $("output").textContent = pretty(run.output) || "nothing yet";
  const over = ENDED.has(run.status);
  $("pause").hidden = over || run.status === "paused";
  $("resume").hidden = !["paused", "failed", "budget_exceeded"].includes(run.status);
  $("cancel").hidden = over;
  $("replay").hidden = !over;
}

const choices = new Map();
async function choicesOf(ticket) {
  if (!choices.has(ticket)) {
    choices.set(ticket, []);
    const found = await call("GET", `/tickets/${encodeURIComponent(ticket)}`).catch(() => null);
    choices.set(ticket, (found && found.state === "open" && found.choices) || []);
    soon();
  }
  return choices.get(ticket);
}

function drawWhy(run, why) {
  // Steps that wait for other steps are in the table below.
  const waits = why && !ENDED.has(run.status) ? why.waits.filter((wait) => wait.kind !== "predecessors") : [];
  const boxes = waits.slice(0, 20).map((wait) => {
    const box = make("div", null, "wait");
    box.append(make("div", [wait.kind, wait.title || wait.step, wait.message || wait.who].filter(Boolean).join(" · ")));
    if (TICKETS.has(wait.kind) && wait.name) {
      choicesOf(wait.name);
      for (const decision of choices.get(wait.name) || []) {
        const button = make("button", decision, "plain");
        button.addEventListener("click", guarded(() => decide(wait.name, decision)));
        box.append(button, " ");
      }
    }
    return box;
  });
  const summary = why && !ENDED.has(run.status) && why.summary ? [make("p", why.summary)] : [];
  $("why").replaceChildren(...summary, ...boxes);
}

async function decide(ticket, decision) {
  const reason = prompt(`Why ${decision}?`, "");
  if (reason === null) return;
  await call("POST", `/tickets/${encodeURIComponent(ticket)}/decision`, { decision, reason });
  choices.delete(ticket);
  soon();
}

function drawSteps(run) {
  const times = run.steps.flatMap((s) => [s.ready_at, s.started_at, s.finished_at]).filter(Boolean).map((t) => +new Date(t));
  const from = Math.min(...times);
  const span = Math.max(1, (ENDED.has(run.status) ? Math.max(...times) : Date.now()) - from);
  $("steps").replaceChildren(...run.steps.map((step) => {
    const row = make("tr");
    const mark = make("span");
    status(mark, step.status);
    const second = make("td");
    second.append(mark);
    const note = step.error ? step.error.message : step.waiting_for ? step.waiting_for.message || step.waiting_for.kind : "";
    if (note) second.append(make("div", note, "quiet"));
    const first = make("td", step.name || step.id, "mono");
    if (step.items) first.append(make("div", `${step.items.done} of ${step.items.count} items`, "quiet"));
    const track = make("td");
    track.append(bar(step, from, span));
    row.append(first, second, make("td", step.attempt || ""), track, make("td", step.took_ms || ""));
    if (step.output !== null && step.output !== undefined) row.title = JSON.stringify(step.output).slice(0, 2000);
    return row;
  }));
}

function bar(step, from, span) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", "0 0 100 10");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", `track ${/^[a-z_]+$/.test(step.status) ? step.status : ""}`);
  const at = (text) => (100 * (+new Date(text) - from)) / span;
  const rect = (x, width, className) => {
    const node = document.createElementNS(ns, "rect");
    node.setAttribute("x", String(Math.max(0, x)));
    node.setAttribute("width", String(Math.max(0.7, width)));
    node.setAttribute("height", "10");
    if (className) node.setAttribute("class", className);
    svg.append(node);
  };
  const end = step.finished_at ? at(step.finished_at) : 100;
  if (step.ready_at && step.started_at) rect(at(step.ready_at), at(step.started_at) - at(step.ready_at), "queue");
  if (step.started_at) rect(at(step.started_at), end - at(step.started_at));
  return svg;
}

const command = (name, body = {}) => guarded(async () => {
  await call("POST", `${runPath(state.chosen)}/${name}`, body, { "Idempotency-Key": newKey() });
  soon();
});
$("pause").addEventListener("click", command("pause"));
$("resume").addEventListener("click", command("resume"));
$("cancel").addEventListener("click", command("cancel"));
$("replay").addEventListener("click", guarded(async () => {
  const started = await call("POST", `${runPath(state.chosen)}/replay`, {}, { "Idempotency-Key": newKey() });
  location.hash = `#/runs/${encodeURIComponent(started.id)}`;
}));

function closeStreams() {
  for (const name of ["all", "one"]) {
    if (state[name]) state[name].close();
    state[name] = null;
  }
}

guarded(enter)();
