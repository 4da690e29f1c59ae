// A workflow as a pass looks at it: nodes and edges of its outermost graph, and who reads what of whom.
// Where a text cannot be told apart, it counts as reading: a pass that knows too little leaves things as they are.

import { Value } from "./json";
import { Task } from "./plugin";

/** Stands for every node among those that something reads. */
export const ANY = "*";

/** A node with its edges. */
export class Node {
  id: string;
  kind: string;
  into: Edge[] = [];
  out: Edge[] = [];
  private known: Set<string> | null = null;

  constructor(public json: Value) {
    this.id = json.get("id").str();
    this.kind = json.get("kind").str();
  }

  get config(): Value { return this.json.get("config"); }

  /** The nodes it names anywhere, `ANY` among them where that cannot be told. */
  get names(): Set<string> {
    const known = this.known;
    if (known !== null) return known;
    const found = mentions(this.json);
    // Agents may be shown what came before.
    if (this.kind == "agent" && (this.config.has("context") || this.config.has("knowledge"))) found.add(ANY);
    const fallback = this.json.get("on_error").get("fallback").get("node");
    if (fallback.exists) found.add(fallback.str());
    this.known = found;
    return found;
  }

  /** Whether the result depends on nothing but the input, and nothing outside changes. */
  get isPure(): bool {
    const own = this.json.get("effect");
    if (own.exists) return own.str() == "pure";
    return this.kind == "transform" || this.kind == "aggregate" || this.kind == "filter";
  }

  /** Whether it may be left out or done once: pure, or declared to give the same again. */
  get isRepeatable(): bool {
    return this.isPure || (this.json.get("deterministic").isTrue && this.json.get("effect").str("idempotent") == "idempotent"
      && (this.kind == "function" || this.kind == "agent" || this.kind == "http"));
  }

  /** Whether it waits for all that leads to it, the default. */
  get joinsAll(): bool { const join = this.json.get("join"); return !join.exists || join.str() == "all"; }

  /** Whether a failure of it is nothing but that. */
  get failsPlainly(): bool {
    const policy = this.json.get("on_error");
    return !policy.exists || policy.get("action").str("fail") == "fail";
  }

  /** Whether its edges are chosen among, by order or by a model. */
  get chooses(): bool {
    return this.json.get("route").str() == "first" || this.kind == "switch" || this.kind == "approval"
      || (this.kind == "agent" && (this.config.get("pattern").str() == "supervisor" || this.config.has("choices")));
  }

  /** Whether what it does depends on its input, which is the outputs of the nodes before it unless `input` says otherwise. */
  get takesInput(): bool {
    if (this.kind == "http") return false;
    if (this.kind == "transform") return !this.config.has("template");
    if (this.kind == "function") return !(this.config.has("tool") && this.config.has("args"));
    return true;
  }
}

/** An edge; `json` is as the definition has it. */
export class Edge {
  from: string;
  to: string;
  private known: Set<string> | null = null;

  constructor(public json: Value) {
    this.from = json.get("from").str();
    this.to = json.get("to").str();
  }

  /** The nodes that its condition names. */
  get names(): Set<string> {
    const known = this.known;
    if (known !== null) return known;
    const found = new Set<string>();
    mentionsIn(this.json.get("when").str(), true, found);
    this.known = found;
    return found;
  }

  /** Whether it is taken whenever its source completes, and by nothing else. */
  get isPlain(): bool {
    return this.json.get("when").str() == "" && this.json.get("on").str("success") == "success" && !this.isBack;
  }

  get isBack(): bool { return this.json.get("max_iterations").exists; }
}

/** The outermost graph of a task's workflow. */
export class Graph {
  nodes: Node[] = [];
  edges: Edge[] = [];
  private byId: Map<string, Node> = new Map();
  /** Nodes that stand in for others that failed, without an edge that says so. */
  fallbacks: Set<string> = new Set();
  private upstream: Map<string, Set<string>> = new Map();
  /** Nodes on a cycle, where a node is many steps. */
  looped: Set<string> = new Set();

  constructor(public task: Task) {
    const nodes = task.workflow.get("nodes").items;
    for (let i = 0; i < nodes.length; i++) {
      const node = new Node(nodes[i]);
      this.nodes.push(node);
      this.byId.set(node.id, node);
      const fallback = node.json.get("on_error").get("fallback").get("node");
      if (fallback.exists) this.fallbacks.add(fallback.str());
    }
    const edges = task.workflow.get("edges").items;
    for (let i = 0; i < edges.length; i++) this.join(new Edge(edges[i]));
    for (let i = 0; i < this.edges.length; i++) {
      const edge = this.edges[i];
      if (edge.isBack) this.loop(edge);
    }
  }

  has(id: string): bool { return this.byId.has(id); }
  node(id: string): Node { return this.byId.get(id); }
  isFixed(id: string): bool { return this.task.fixed.includes(id); }

  /** Draw an edge. */
  join(edge: Edge): void {
    this.edges.push(edge);
    if (!this.has(edge.from) || !this.has(edge.to)) return;
    this.node(edge.from).out.push(edge);
    this.node(edge.to).into.push(edge);
  }

  /** Take an edge away. */
  cut(edge: Edge): void {
    this.edges.splice(this.edges.indexOf(edge), 1);
    const out = this.node(edge.from).out;
    out.splice(out.indexOf(edge), 1);
    const into = this.node(edge.to).into;
    into.splice(into.indexOf(edge), 1);
  }

  /** Whether an edge leads from one node to another. */
  isJoined(from: string, to: string): bool {
    const out = this.node(from).out;
    for (let i = 0; i < out.length; i++) if (out[i].to == to) return true;
    return false;
  }

  /** Take a node away, with its edges. */
  drop(id: string): void {
    const node = this.node(id);
    while (node.into.length) this.cut(node.into[0]);
    while (node.out.length) this.cut(node.out[0]);
    this.nodes.splice(this.nodes.indexOf(node), 1);
    this.byId.delete(id);
  }

  private loop(back: Edge): void {
    // The body: what the header leads to and what leads to the edge that closes the loop.
    const ahead = this.reach(back.to, true);
    const behind = this.reach(back.from, false);
    for (let i = 0; i < this.nodes.length; i++) {
      const id = this.nodes[i].id;
      if (ahead.has(id) && behind.has(id)) this.looped.add(id);
    }
  }

  /** The nodes that a node leads to, or that lead to it, itself included; edges that close loops apart. */
  reach(id: string, forward: bool): Set<string> {
    const found = new Set<string>();
    const todo = [id];
    while (todo.length) {
      const name = todo.pop();
      if (found.has(name) || !this.has(name)) continue;
      found.add(name);
      const edges = forward ? this.node(name).out : this.node(name).into;
      for (let i = 0; i < edges.length; i++) if (!edges[i].isBack) todo.push(forward ? edges[i].to : edges[i].from);
    }
    return found;
  }

  /** Whether a node, or the condition of an edge behind it, reads what another one came to, by name or as what it is given. */
  reads(node: Node, id: string): bool {
    if (node.names.has(id)) return true;
    for (let i = 0; i < node.out.length; i++) if (node.out[i].names.has(id)) return true;
    if (node.json.has("input") || !node.takesInput) return false;
    for (let i = 0; i < node.into.length; i++) if (node.into[i].from == id) return true;
    return false;
  }

  /** Whether a node may read every node before it, for all that can be told. */
  readsAny(node: Node): bool {
    if (node.names.has(ANY)) return true;
    for (let i = 0; i < node.out.length; i++) if (node.out[i].names.has(ANY)) return true;
    return false;
  }

  /** The nodes before a node, as the graph was at first. */
  before(id: string): Set<string> {
    if (!this.upstream.has(id)) this.upstream.set(id, this.reach(id, false));
    return this.upstream.get(id);
  }

  /** Whether any node but some reads what a node came to. */
  isReadBeside(id: string, but: Set<string>): bool {
    for (let i = 0; i < this.nodes.length; i++) {
      const node = this.nodes[i];
      if (but.has(node.id)) continue;
      if (this.reads(node, id) || (this.readsAny(node) && this.before(node.id).has(id))) return true;
    }
    return false;
  }
}

/** The longest way through a graph by the median times of its steps. */
export class LongestWay {
  ms: f64 = 0;
  steps: i32 = 0;
  private until: Map<string, f64> = new Map();
  private count: Map<string, i32> = new Map();

  constructor(private graph: Graph) {
    for (let i = 0; i < graph.nodes.length; i++) {
      const id = graph.nodes[i].id;
      this.walk(graph.nodes[i]);
      if (this.until.get(id) > this.ms || !this.steps) { this.ms = this.until.get(id); this.steps = this.count.get(id); }
    }
  }

  private walk(node: Node): void {
    if (this.until.has(node.id)) return;
    this.until.set(node.id, 0);
    this.count.set(node.id, 1);
    let before: f64 = 0, steps = 0;
    for (let i = 0; i < node.into.length; i++) {
      const from = node.into[i].from;
      if (node.into[i].isBack) continue;
      this.walk(this.graph.node(from));
      if (this.until.get(from) >= before) { before = this.until.get(from); steps = this.count.get(from); }
    }
    this.until.set(node.id, before + this.graph.task.median(node.id));
    this.count.set(node.id, steps + 1);
  }
}

/** The nodes that the texts of a value name, in templates and in expressions. */
export function mentions(value: Value): Set<string> {
  const found = new Set<string>();
  const texts = value.everyText();
  for (let i = 0; i < texts.length; i++) mentionsIn(texts[i], false, found);
  return found;
}

/** Add the nodes that a text names: after `nodes` or `ctx`, as a member or an index. */
export function mentionsIn(text: string, condition: bool, found: Set<string>): void {
  if (condition && text.trim().startsWith("py:")) { found.add(ANY); return; }
  for (let word = 0; word < 2; word++) {
    const root = word ? "ctx" : "nodes";
    for (let at = text.indexOf(root); at >= 0; at = text.indexOf(root, at + 1)) {
      if (at > 0 && isName(text.charCodeAt(at - 1))) continue;
      const after = at + root.length;
      if (after < text.length && isName(text.charCodeAt(after))) continue;
      const name = memberAt(text, after);
      if (name.length) {
        found.add(name);
        if (name.includes("-")) found.add(name.split("-")[0]);  // in an expression this may be a difference
      }
      else if (isReference(text, after)) found.add(ANY);
    }
  }
}

/** Whether a bare word is no prose: it stands in an expression or a reference, which texts without these signs are not. */
function isReference(text: string, after: i32): bool {
  if (text.includes("$")) return true;
  let next = after;
  while (next < text.length && text.charCodeAt(next) == 32) next++;
  const sign = next < text.length ? text.charCodeAt(next) : 0;
  return sign == 46 || sign == 91 || sign == 44 || sign == 41 || sign == 61 || sign == 33 || sign == 0;
}

function memberAt(text: string, from: i32): string {
  let at = from;
  while (at < text.length && text.charCodeAt(at) == 32) at++;
  if (at >= text.length) return "";
  const sign = text.charCodeAt(at++);
  if (sign == 46) {
    const start = at;
    while (at < text.length && (isName(text.charCodeAt(at)) || text.charCodeAt(at) == 45)) at++;
    return text.slice(start, at);
  }
  if (sign != 91) return "";
  while (at < text.length && text.charCodeAt(at) == 32) at++;
  const quote = at < text.length ? text.charCodeAt(at++) : 0;
  if (quote != 34 && quote != 39) return "";
  const start = at;
  while (at < text.length && text.charCodeAt(at) != quote) {
    if (text.charCodeAt(at) == 92) return "";
    at++;
  }
  return text.slice(start, at);
}

export function isName(c: i32): bool {
  return (c >= 48 && c <= 57) || (c >= 65 && c <= 90) || (c >= 97 && c <= 122) || c == 95;
}

/** Names as a set. */
export function setOf(names: string[]): Set<string> {
  const made = new Set<string>();
  for (let i = 0; i < names.length; i++) made.add(names[i]);
  return made;
}

/** A list of names for people: `a, b and c`. */
export function listed(names: string[]): string {
  if (names.length < 2) return names.join("");
  return names.slice(0, names.length - 1).join(", ") + " and " + names[names.length - 1];
}
