// The example of a pass: requests without a time limit get one, from how long they have taken so far.
//
// A pass gets the workflow with what its runs have shown, and answers with suggestions. Each is a patch that is whole in
// itself; Tenuto checks it, shows it to whoever decides, and measures afterwards whether it was right.

import { Value } from "./json";
import { ABI, Suggestion, Task, allocate, answer, taskAt } from "./plugin";
import { Graph, Node } from "./graph";

// What every optimizer exports, besides its memory. Leave these three as they are and write `optimise`.
export function abi(): i32 { return ABI; }
export function alloc(size: i32): usize { return allocate(size); }
export function run(at: usize, size: i32): u64 { return answer(optimise(taskAt(at, size))); }

function optimise(task: Task): Suggestion[] {
  const found: Suggestion[] = [];
  // With too few runs the figures mean little. Operators change such numbers in the settings of the optimizer.
  if (task.runs < task.setting("min_runs", 20)) return found;
  const graph = new Graph(task);
  for (let i = 0; i < graph.nodes.length; i++) {
    const node = graph.nodes[i];
    // A live run has begun with some nodes or relies on them; a patch of those is refused.
    if (graph.isFixed(node.id) || node.kind != "http" || node.json.get("timeout_s").exists) continue;
    const slowest = task.shown(node.id).get("p95_ms");
    if (slowest.exists) found.push(limited(task, node, slowest.num()));
  }
  return found;
}

function limited(task: Task, node: Node, slowest: f64): Suggestion {
  const seconds = Math.max(1, Math.ceil((slowest * task.setting("times", 10)) / 1000));
  const made = new Suggestion(
    "time_limit",
    "A time limit of " + seconds.toString().split(".")[0] + " s for " + node.id,
    "Without a limit of its own, a request that hangs holds its run up for as long as the worker allows.",
  );
  // Paths may go by ids. This is the same as "add" in RFC 6902.
  made.add("/nodes/" + node.id + "/timeout_s", Value.number(seconds));
  made.nodes = [node.id];
  // What the claim rests on, for the person who decides.
  made.evidence = Value.object().set("runs", Value.number(task.runs)).set("p95_ms", Value.number(slowest));
  return made;
}
