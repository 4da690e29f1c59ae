// Takes out nodes that no run can reach, and pure ones whose results nobody reads.

import { Value } from "../src/tenuto/bundled/optimizer_template/assembly/json";
import { ABI, Suggestion, Task, allocate, answer, taskAt } from "../src/tenuto/bundled/optimizer_template/assembly/plugin";
import { Edge, Graph, Node, listed, setOf } from "../src/tenuto/bundled/optimizer_template/assembly/graph";

export function abi(): i32 { return ABI; }
export function alloc(size: i32): usize { return allocate(size); }
export function run(at: usize, size: i32): u64 { return answer(prune(taskAt(at, size))); }

function prune(task: Task): Suggestion[] {
  const found: Suggestion[] = [];
  const dead = unreachable(task);
  if (dead !== null) found.push(dead);
  const unread = unreadNodes(task);
  if (unread !== null) found.push(unread);
  return found;
}

/** Nodes to which every edge has a condition that is never true, or comes from such a node. */
function unreachable(task: Task): Suggestion | null {
  const graph = new Graph(task);
  const made = new Suggestion("prune", "", "");
  const dead = new Set<string>();
  for (let more = true; more;) {
    more = false;
    for (let i = 0; i < graph.nodes.length; i++) {
      const node = graph.nodes[i];
      if (dead.has(node.id) || !node.into.length || !allDead(node.into, dead)) continue;
      dead.add(node.id);
      more = true;
    }
  }
  const names: string[] = [];
  for (let i = 0; i < graph.nodes.length; i++) if (dead.has(graph.nodes[i].id)) names.push(graph.nodes[i].id);
  if (!names.length || names.length == graph.nodes.length) return null;
  for (let i = 0; i < names.length; i++) {
    const node = graph.node(names[i]);
    if (node.kind == "approval" || graph.isFixed(node.id) || graph.looped.has(node.id) || graph.fallbacks.has(node.id)) return null;
    if (graph.isReadBeside(node.id, dead)) return null;
    for (let k = 0; k < node.out.length; k++) if (!graph.node(node.out[k].to).joinsAll && !dead.has(node.out[k].to)) return null;
    for (let k = 0; k < node.into.length; k++) if (node.into[k].json.get("on").str("success") != "success") return null;
  }
  for (let i = 0; i < names.length; i++) remove(graph, made, names[i]);
  if (made.operations.length > task.limits.get("max_operations").num(50)) return null;
  made.title = "Take out what is never reached: " + listed(names);
  made.reason = "Every way there has a condition that is never true, so no run executes them and nothing reads them.";
  made.nodes = names;
  made.evidence = Value.object().set("runs", Value.number(task.runs));
  return made;
}

function allDead(edges: Edge[], dead: Set<string>): bool {
  for (let i = 0; i < edges.length; i++) {
    const never = edges[i].json.get("when").str().trim() == "false";
    if (!never && !dead.has(edges[i].from)) return false;
  }
  return true;
}

/** Pure nodes in the middle whose results nobody reads; what is before them leads to what is after them. */
function unreadNodes(task: Task): Suggestion | null {
  const graph = new Graph(task);
  const made = new Suggestion("prune", "", "");
  const names: string[] = [];
  let ms: f64 = 0, requests: f64 = 0;
  for (let more = true; more;) {
    more = false;
    for (let i = 0; i < graph.nodes.length; i++) {
      const node = graph.nodes[i];
      if (!isIdle(graph, node)) continue;
      // What is too much for one patch is left for the next one.
      const takes = node.into.length + 2 * node.out.length + 1;
      if (made.operations.length + takes > task.limits.get("max_operations").num(50)) continue;
      bridge(graph, node, made);
      names.push(node.id);
      ms += task.median(node.id);
      if (node.kind == "http") requests += Math.max(1, node.config.get("requests").items.length);
      more = true;
      break;
    }
  }
  if (!names.length) return null;
  made.title = "Take out steps whose results nobody reads: " + listed(names);
  made.reason = "They change nothing outside of the run, no step, condition or output of the run uses what they come to, "
    + "and what follows them follows what was before them.";
  made.nodes = names;
  made.steps = names.length;
  made.requests = requests;
  made.ms = ms;
  made.evidence = Value.object().set("runs", Value.number(task.runs)).set("ms_in_them", Value.number(ms));
  return made;
}

function isIdle(graph: Graph, node: Node): bool {
  const task = graph.task, shown = task.shown(node.id);
  if (!node.isPure || node.kind == "agent" || graph.isFixed(node.id) || graph.looped.has(node.id)) return false;
  // A step that may fail on purpose checks something.
  if (node.json.get("output_schema").exists || !node.failsPlainly || shown.get("failed").num() > 0) return false;
  if (!node.joinsAll || node.chooses || node.into.length > 1 || !node.out.length) return false;
  const first = node.into.length == 0, isPlain = first || node.into[0].isPlain;
  if (!first && (graph.node(node.into[0].from).chooses || node.into[0].isBack)) return false;
  if (!first && node.into[0].json.get("on").str("success") != "success") return false;
  for (let i = 0; i < node.out.length; i++) {
    const edge = node.out[i], after = graph.node(edge.to);
    if (!edge.isPlain || graph.isFixed(after.id) || graph.looped.has(after.id) || !after.joinsAll) return false;
    if (!first && graph.isJoined(node.into[0].from, after.id)) return false;
    if (after.kind == "approval" || after.kind == "join") return false;
    // An edge that is always taken may be what lets it run.
    if ((first || !isPlain) && after.into.length > 1) return false;
  }
  return !graph.isReadBeside(node.id, setOf([node.id]));
}

/** Lead from before a node to after it, in the graph and in the patch. */
function bridge(graph: Graph, node: Node, made: Suggestion): void {
  const into = node.into.slice(0), after: string[] = [];
  for (let i = 0; i < node.out.length; i++) after.push(node.out[i].to);
  remove(graph, made, node.id);
  if (!into.length) return;
  for (let i = 0; i < after.length; i++) {
    const edge = into[0].json.copy().set("to", Value.text(after[i]));
    made.add("/edges/-", edge);
    graph.join(new Edge(edge));
  }
}

function remove(graph: Graph, made: Suggestion, id: string): void {
  const node = graph.node(id);
  for (let i = 0; i < node.into.length; i++) made.remove("/edges/" + node.into[i].from + "->" + id);
  for (let i = 0; i < node.out.length; i++) made.remove("/edges/" + id + "->" + node.out[i].to);
  made.remove("/nodes/" + id);
  graph.drop(id);
}
