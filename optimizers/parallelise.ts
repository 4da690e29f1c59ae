// Lets steps run at the same time that wait for each other without need.

import { Value } from "../src/tenuto/bundled/optimizer_template/assembly/json";
import { ABI, Suggestion, Task, allocate, answer, taskAt } from "../src/tenuto/bundled/optimizer_template/assembly/plugin";
import { Edge, Graph, LongestWay, Node, listed } from "../src/tenuto/bundled/optimizer_template/assembly/graph";

export function abi(): i32 { return ABI; }
export function alloc(size: i32): usize { return allocate(size); }
export function run(at: usize, size: i32): u64 { return answer(parallelise(taskAt(at, size))); }

function parallelise(task: Task): Suggestion[] {
  const graph = new Graph(task), before = new Graph(task);
  const made = new Suggestion("parallelise", "", "");
  const pairs: string[] = [];
  // Each pair takes a few operations; what is too much for one patch is left for the next one.
  const most = task.limits.get("max_operations").num(50) / 4;
  for (let edge = needless(graph); edge !== null && pairs.length < most; edge = needless(graph)) {
    const pair = edge.from + " before " + edge.to;
    pairs.push(pair);
    if (!made.nodes.includes(edge.from)) made.nodes.push(edge.from);
    if (!made.nodes.includes(edge.to)) made.nodes.push(edge.to);
    part(graph, edge);
  }
  if (!pairs.length) return [];
  difference(before, graph, made);
  if (made.operations.length > task.limits.get("max_operations").num(50)) return [];
  const was = new LongestWay(before).ms, is = new LongestWay(graph).ms;
  made.title = "Let " + listed(made.nodes) + " run at the same time where they can";
  made.reason = "Steps wait for others whose results they do not use: " + listed(pairs)
    + ". All of them only compute, so that nothing outside shows the order; what follows them still waits for all.";
  made.ms = task.runs > 0 && was > is ? was - is : 0;
  const medians = Value.object();
  for (let i = 0; i < made.nodes.length; i++) medians.set(made.nodes[i], Value.number(task.median(made.nodes[i])));
  made.evidence = Value.object().set("runs", Value.number(task.runs)).set("p50_ms", medians)
    .set("longest_way_ms_before", Value.number(was)).set("longest_way_ms_after", Value.number(is));
  return [made];
}

/** An edge that keeps a step waiting for one whose result it does not use, where nothing else depends on that order. */
function needless(graph: Graph): Edge | null {
  // The last ones first: what follows a step then still comes after one step only, and can move as well.
  const depths = new Map<string, i32>();
  let found: Edge | null = null, deepest = 0;
  for (let i = 0; i < graph.edges.length; i++) {
    const edge = graph.edges[i];
    if (!edge.isPlain || !graph.has(edge.from) || !graph.has(edge.to)) continue;
    const first = graph.node(edge.from), then = graph.node(edge.to);
    if (!isFree(graph, first) || !isFree(graph, then) || then.into.length != 1) continue;
    if (graph.reads(then, first.id) || graph.readsAny(then) || graph.fallbacks.has(then.id)) continue;
    // What it is given must not change with the steps before it.
    if (!then.json.has("input") && then.takesInput) continue;
    const depth = depthOf(graph, then, depths);
    if (depth <= deepest || !ways(graph, first) || !followers(graph, first, then)) continue;
    found = edge;
    deepest = depth;
  }
  return found;
}

/** How many steps come before a node on the longest way to it, itself included. */
function depthOf(graph: Graph, node: Node, known: Map<string, i32>): i32 {
  if (known.has(node.id)) return known.get(node.id);
  known.set(node.id, 1);
  let before = 0;
  for (let i = 0; i < node.into.length; i++) {
    if (!node.into[i].isBack) before = max(before, depthOf(graph, graph.node(node.into[i].from), known));
  }
  known.set(node.id, before + 1);
  return before + 1;
}

function isFree(graph: Graph, node: Node): bool {
  return node.isRepeatable && node.kind != "agent" && node.joinsAll && node.failsPlainly && !node.chooses && !graph.isFixed(node.id)
    && !graph.looped.has(node.id) && !node.json.get("resources").items.length && !node.json.get("irreversible").isTrue;
}

/** Whether another step can start when this one does: what is before it always leads on. */
function ways(graph: Graph, first: Node): bool {
  // In a live run, no step can begin any more that nothing leads to.
  if (!first.into.length) return !graph.task.fixed.length;
  for (let i = 0; i < first.into.length; i++) {
    if (!first.into[i].isPlain || graph.node(first.into[i].from).chooses) return false;
  }
  return true;
}

/** Whether what comes after the second step can wait for both, and the first one's output stays inside of the run. */
function followers(graph: Graph, first: Node, then: Node): bool {
  if (!then.out.length) {
    for (let i = 0; i < first.out.length; i++) if (first.out[i].to != then.id && first.out[i].isPlain) return true;
    return false;
  }
  for (let i = 0; i < then.out.length; i++) {
    const edge = then.out[i], after = graph.node(edge.to);
    if (!edge.isPlain || !after.joinsAll || graph.isFixed(after.id) || graph.looped.has(after.id)) return false;
    // An edge there already has to keep it waiting as well, and the first step from being the end of a way.
    for (let k = 0; k < first.out.length; k++) if (first.out[k].to == after.id && !first.out[k].isPlain) return false;
    // It would be given one output more than before.
    if (!after.json.has("input") && after.takesInput) return false;
  }
  return true;
}

/** Let two steps start together, and what came after the second one wait for both. */
function part(graph: Graph, edge: Edge): void {
  const first = graph.node(edge.from), then = graph.node(edge.to);
  graph.cut(edge);
  for (let i = 0; i < first.into.length; i++) draw(graph, first.into[i].from, then.id);
  for (let i = 0; i < then.out.length; i++) if (!graph.isJoined(first.id, then.out[i].to)) draw(graph, first.id, then.out[i].to);
}

function draw(graph: Graph, from: string, to: string): void {
  graph.join(new Edge(Value.object().set("from", Value.text(from)).set("to", Value.text(to))));
}

/** The operations that make the edges of one graph those of another. */
function difference(before: Graph, after: Graph, made: Suggestion): void {
  for (let i = 0; i < before.edges.length; i++) {
    const edge = before.edges[i];
    if (edge.isPlain && !after.isJoined(edge.from, edge.to)) made.remove("/edges/" + edge.from + "->" + edge.to);
  }
  for (let i = 0; i < after.edges.length; i++) {
    const edge = after.edges[i];
    if (!before.isJoined(edge.from, edge.to)) made.add("/edges/-", edge.json);
  }
}
