// Marks what need not be computed again: pure steps whose time shows, and the largest pure part of a graph with one way in.

import { Value } from "../src/tenuto/bundled/optimizer_template/assembly/json";
import { ABI, Suggestion, Task, allocate, answer, taskAt } from "../src/tenuto/bundled/optimizer_template/assembly/plugin";
import { Graph, Node, listed, setOf } from "../src/tenuto/bundled/optimizer_template/assembly/graph";

export function abi(): i32 { return ABI; }
export function alloc(size: i32): usize { return allocate(size); }
export function run(at: usize, size: i32): u64 { return answer(mark(taskAt(at, size))); }

function mark(task: Task): Suggestion[] {
  const graph = new Graph(task);
  if (task.runs < task.setting("min_runs", 5)) return [];
  const able: Node[] = [];
  for (let i = 0; i < graph.nodes.length; i++) if (isAble(graph, graph.nodes[i])) able.push(graph.nodes[i]);
  const found: Suggestion[] = [];
  const whole = largest(graph, able), names = new Set<string>();
  if (whole.length > 1) {
    // In the order in which they follow from the entry, as many as one patch may change.
    const made = marked(task, whole.slice(0, <i32>task.limits.get("max_operations").num(50)), fresh(graph));
    if (made !== null) found.push(made);
    for (let i = 0; i < whole.length; i++) names.add(whole[i].id);
  }
  for (let i = 0; i < able.length; i++) {
    if (names.has(able[i].id)) continue;
    const made = marked(task, [able[i]], "");
    if (made !== null) found.push(made);
  }
  return found;
}

function isAble(graph: Graph, node: Node): bool {
  const works = ["function", "agent", "http", "transform", "filter", "aggregate"];
  return works.includes(node.kind) && node.isRepeatable && !node.json.get("cache").exists && !graph.isFixed(node.id)
    && !node.json.get("irreversible").isTrue;
}

/** The suggestion to keep some nodes' results; nothing when they cost less than looking them up. */
function marked(task: Task, nodes: Node[], group: string): Suggestion | null {
  const made = new Suggestion("mark_cacheable", "", "");
  const medians = Value.object();
  let ms: f64 = 0, cost: f64 = 0;
  for (let i = 0; i < nodes.length; i++) {
    const shown = task.shown(nodes[i].id);
    if (!shown.exists || shown.get("completed").num() < 1) return null;
    ms += shown.get("p50_ms").num();
    cost += shown.get("cost_usd_micros").num();
    medians.set(nodes[i].id, shown.get("p50_ms").exists ? shown.get("p50_ms") : Value.number(0));
    made.nodes.push(nodes[i].id);
    const cache = Value.object().set("policy", Value.text("read_through"));
    if (group.length) cache.set("group", Value.text(group));
    made.add("/nodes/" + nodes[i].id + "/cache", cache);
  }
  if (ms < task.setting("min_ms", 5) && cost <= 0) return null;
  made.ms = ms;
  made.cost = cost;
  made.title = "Keep " + (nodes.length > 1 ? "what " + listed(made.nodes) + " come to, as one" : "the result of " + listed(made.nodes));
  made.reason = "The same input always gives the same result here, and nothing outside of the run changes. "
    + (nodes.length > 1 ? "A later run with the same input at the way in skips all of them at once." : "A later step with the same input takes the kept result.");
  made.evidence = Value.object().set("runs", Value.number(task.runs)).set("p50_ms", medians)
    .set("gain_holds", Value.text("for a run that brings an input seen before"));
  return made;
}

function fresh(graph: Graph): string {
  const all = graph.task.workflow.toString();
  let name = "pure";
  for (let n = 2; all.includes('"' + name + '"'); n++) name = "pure_" + n.toString();
  return name;
}

/** The largest connected set of nodes that is entered at one of them only. */
function largest(graph: Graph, able: Node[]): Node[] {
  const free = new Set<string>(), seen = new Set<string>();
  for (let i = 0; i < able.length; i++) if (!graph.looped.has(able[i].id)) free.add(able[i].id);
  let best: Node[] = [];
  for (let i = 0; i < able.length; i++) {
    // What follows from a member alone is a part of what follows from the entry.
    if (seen.has(able[i].id) || !free.has(able[i].id)) continue;
    const set = from(graph, free, able[i]);
    for (let k = 0; k < set.length; k++) seen.add(set[k].id);
    if (set.length > best.length) best = set;
  }
  return best;
}

/** What can be computed from an entry alone: each member waits for members only. */
function from(graph: Graph, free: Set<string>, entry: Node): Node[] {
  const set = [entry], names = setOf([entry.id]);
  for (let i = 0; i < set.length; i++) {
    for (let k = 0; k < set[i].out.length; k++) {
      const node = graph.node(set[i].out[k].to);
      if (names.has(node.id) || !free.has(node.id) || !node.joinsAll || graph.fallbacks.has(node.id)) continue;
      let inside = true;
      for (let n = 0; n < node.into.length; n++) inside = inside && names.has(node.into[n].from);
      if (!inside) continue;
      set.push(node);
      names.add(node.id);
    }
  }
  return set;
}
