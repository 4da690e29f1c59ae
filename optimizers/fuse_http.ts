// Fuses requests that follow each other, and those that nothing makes wait for each other, into one node.

import { Value } from "../src/tenuto/bundled/optimizer_template/assembly/json";
import { ABI, Suggestion, Task, allocate, answer, taskAt } from "../src/tenuto/bundled/optimizer_template/assembly/plugin";
import { ANY, Edge, Graph, LongestWay, Node, isName, listed, mentions, setOf } from "../src/tenuto/bundled/optimizer_template/assembly/graph";

export function abi(): i32 { return ABI; }
export function alloc(size: i32): usize { return allocate(size); }
export function run(at: usize, size: i32): u64 { return answer(fuse(taskAt(at, size))); }

const MOST = 32;
// Of a graph with more requests than that, the others are looked at when these are done.
const AT_ONCE = 120;
const FIELDS = ["id", "kind", "config", "retry", "timeout_s", "on_error", "join", "cancel_losers", "effect", "on_unknown",
  "deterministic", "description", "route", "cache"];

function fuse(task: Task): Suggestion[] {
  const graph = new Graph(task);
  const found: Suggestion[] = [];
  const taken = new Set<string>();
  const able: Node[] = [];
  const free = new Set<string>();
  for (let i = 0; i < graph.nodes.length; i++) {
    const node = graph.nodes[i];
    if (isAble(graph, node) && !graph.fallbacks.has(node.id)) { able.push(node); free.add(node.id); }
  }
  for (let i = 0; i < able.length && taken.size < AT_ONCE; i++) {
    const chain = chainFrom(graph, free, able[i], taken);
    if (chain.length < 2) continue;
    const made = new Fusion(graph, chain, true).suggest();
    if (made === null) continue;
    found.push(made);
    for (let k = 0; k < chain.length; k++) taken.add(chain[k].id);
  }
  for (let i = 0; i < able.length && taken.size < AT_ONCE; i++) {
    if (taken.has(able[i].id)) continue;
    const group = besides(graph, able, able[i], taken);
    if (group.length < 2) continue;
    const made = new Fusion(graph, group, false).suggest();
    if (made === null) continue;
    found.push(made);
    for (let k = 0; k < group.length; k++) taken.add(group[k].id);
  }
  return found;
}

// --- which nodes go together ---------------------------------------------------------------------------------------

/** Whether a node only reads, by itself, and is nothing special. */
function isAble(graph: Graph, node: Node): bool {
  if (node.kind != "http" || !node.config.has("url") || graph.isFixed(node.id) || graph.looped.has(node.id)) return false;
  for (let i = 0; i < node.json.keys.length; i++) if (!FIELDS.includes(node.json.keys[i])) return false;
  const method = node.config.get("method").str("GET").toUpperCase();
  const effect = node.json.get("effect").str("idempotent");
  const cache = node.json.get("cache");
  return (method == "GET" || method == "HEAD" || method == "OPTIONS") && (effect == "idempotent" || effect == "pure")
    && node.failsPlainly && !node.chooses && (!cache.exists || cache.str() == "off")
    && !node.config.toString().includes("${error");
}

function isCompatible(a: Node, b: Node): bool {
  const same = ["effect", "on_unknown", "deterministic", "retry"];
  for (let i = 0; i < same.length; i++) if (!a.json.get(same[i]).equals(b.json.get(same[i]))) return false;
  return a.json.get("timeout_s").exists == b.json.get("timeout_s").exists;
}

/** The next of a chain: the only one after a node, which comes after nothing else. */
function nextOf(graph: Graph, free: Set<string>, node: Node): Node | null {
  if (node.out.length != 1 || !node.out[0].isPlain) return null;
  const next = graph.node(node.out[0].to);
  return next.into.length == 1 && next.joinsAll && free.has(next.id) && isCompatible(node, next) ? next : null;
}

function chainFrom(graph: Graph, free: Set<string>, start: Node, taken: Set<string>): Node[] {
  if (taken.has(start.id)) return [];
  if (start.into.length == 1 && start.into[0].isPlain) {
    const before = graph.node(start.into[0].from);
    if (free.has(before.id) && !taken.has(before.id) && nextOf(graph, free, before) === start) return [];
  }
  const chain = [start];
  const most = Math.min(MOST, (graph.task.limits.get("max_operations").num(50) - 8) / 2);
  while (chain.length < most) {
    const next = nextOf(graph, free, chain[chain.length - 1]);
    if (next === null) break;
    chain.push(next);
  }
  return chain;
}

/** The nodes after the same nodes as one, and before the same ones. */
function besides(graph: Graph, able: Node[], one: Node, taken: Set<string>): Node[] {
  if (!one.out.length || !one.joinsAll || !allPlain(one.into) || !allPlain(one.out)) return [];
  const group: Node[] = [];
  const from = names(one.into, true), to = names(one.out, false);
  const each = one.into.length + one.out.length + 1;
  const most = Math.min(MOST, (graph.task.limits.get("max_operations").num(50) - 8) / each);
  for (let i = 0; i < able.length && group.length < most; i++) {
    const other = able[i];
    if (taken.has(other.id) || !other.joinsAll || !allPlain(other.into) || !allPlain(other.out)) continue;
    if (names(other.into, true) == from && names(other.out, false) == to && isCompatible(one, other)) group.push(other);
  }
  return group;
}

function allPlain(edges: Edge[]): bool {
  for (let i = 0; i < edges.length; i++) if (!edges[i].isPlain) return false;
  return true;
}

function names(edges: Edge[], from: bool): string {
  const found: string[] = [];
  for (let i = 0; i < edges.length; i++) found.push(from ? edges[i].from : edges[i].to);
  return found.sort().join(" ");
}

// --- one node of many ----------------------------------------------------------------------------------------------

class Fusion {
  ids: string[] = [];
  /** How the fused node is called: as the last one where that stays what it was, else by a name of its own. */
  id: string = "";
  keeps: bool = false;
  made: Suggestion = new Suggestion("fuse_http", "", "");

  among: Set<string>;

  constructor(public graph: Graph, public group: Node[], public isChain: bool) {
    const ids: string[] = [];
    for (let i = 0; i < group.length; i++) ids.push(group[i].id);
    this.ids = ids;
    this.among = setOf(ids);
  }

  get first(): Node { return this.group[0]; }
  get last(): Node { return this.group[this.group.length - 1]; }

  suggest(): Suggestion | null {
    const shown = this.graph.task.statistics.get("nodes");
    let bytes: f64 = 0;
    for (let i = 0; i < this.ids.length; i++) bytes += shown.get(this.ids[i]).get("bytes").num();
    if (bytes > this.graph.task.setting("max_bytes", 1000000)) return null;
    if (this.retries() > 1000) return null;
    this.keeps = this.isChain && this.mayKeep();
    this.id = this.keeps ? this.last.id : this.fresh();
    const node = this.node();
    if (node === null) return null;
    if (!this.keeps && !this.mayRename()) return null;
    if (!(this.keeps ? this.keep(node) : this.rename(node))) return null;
    if (this.made.operations.length > this.graph.task.limits.get("max_operations").num(50)) return null;
    this.tell();
    return this.made;
  }

  /** Whether the last node can take in the others and stay what it was to everyone. */
  private mayKeep(): bool {
    if (this.retries() > 1) return false;
    for (let i = 0; i < this.group.length; i++) {
      const node = this.group[i];
      if (node.json.get("timeout_s").exists) return false;
      if (node !== this.last && this.graph.isReadBeside(node.id, this.among)) return false;
    }
    for (let i = 0; i < this.last.out.length; i++) {
      const on = this.last.out[i].json.get("on").str("success");
      if (on != "success" && on != "default") return false;
      const named = this.last.out[i].names;
      for (let k = 0; k + 1 < this.ids.length; k++) if (named.has(this.ids[k])) return false;
      if (named.has(ANY)) return false;
    }
    return true;
  }

  /** Whether what follows always does, so that no output of the run is among these, and nobody waits by their names. */
  private mayRename(): bool {
    if (!this.last.out.length || !allPlain(this.last.out)) return false;
    for (let i = 0; i < this.last.out.length; i++) {
      const next = this.graph.node(this.last.out[i].to);
      if (this.graph.isFixed(next.id) || this.graph.looped.has(next.id)) return false;
      if (!this.isChain && !next.joinsAll) return false;
    }
    if (this.isChain) return true;
    for (let i = 0; i < this.first.into.length; i++) {
      if (this.graph.node(this.first.into[i].from).chooses) return false;
    }
    return true;
  }

  private fresh(): string {
    const many = this.ids.length > 2 ? "_and_" + (this.ids.length - 1).toString() + "_more" : "_and_" + this.ids[1];
    const base = (this.ids[0] + (this.isChain ? "_to_" + this.last.id : many)).slice(0, 120);
    let name = base;
    for (let n = 2; this.graph.has(name) || this.graph.task.workflow.toString().includes('"' + name + '"'); n++) name = base + "_" + n.toString();
    return name;
  }

  private retries(): i32 {
    const attempts = this.first.json.get("retry").get("attempts").num(1);
    return <i32>((attempts - 1) * this.ids.length + 1);
  }

  /** The fused node; nothing when something in it cannot be told. */
  private node(): Value | null {
    const requests: Value[] = [];
    let time: f64 = 0;
    for (let i = 0; i < this.group.length; i++) {
      const request = this.request(i);
      if (request === null) return null;
      requests.push(request);
      time += this.group[i].json.get("timeout_s").num();
    }
    const config = Value.object().set("requests", Value.list(requests));
    if (this.keeps) config.set("result", Value.text(this.last.id));
    const node = Value.object().set("id", Value.text(this.id)).set("kind", Value.text("http")).set("config", config);
    const kept = ["effect", "on_unknown", "deterministic"];
    for (let i = 0; i < kept.length; i++) {
      // A node of another name may not call itself better than its requests.
      if (this.first.json.has(kept[i]) && (this.keeps || kept[i] != "effect")) node.set(kept[i], this.first.json.get(kept[i]));
    }
    const gates = ["join", "cancel_losers"];
    for (let i = 0; i < gates.length; i++) if (this.first.json.has(gates[i])) node.set(gates[i], this.first.json.get(gates[i]));
    if (this.keeps && this.last.json.has("description")) node.set("description", this.last.json.get("description"));
    if (this.first.json.get("retry").exists) {
      node.set("retry", this.first.json.get("retry").copy().set("attempts", Value.int(this.retries())));
    }
    if (time > 0) node.set("timeout_s", Value.number(time));
    return node;
  }

  private request(at: i32): Value | null {
    const node = this.group[at];
    const request = Value.object().set("id", Value.text(node.id));
    const keys = node.config.keys;
    for (let i = 0; i < keys.length; i++) {
      request.set(keys[i], rewritten(node.config.items[i], this.ids, "${requests.", ""));
    }
    const left = mentions(request);
    if (left.has(ANY)) return null;
    for (let i = 0; i < this.ids.length; i++) if (left.has(this.ids[i])) return null;
    if (node.json.get("timeout_s").exists) request.set("timeout_s", node.json.get("timeout_s"));
    if (this.isChain && at && !node.isPure && !reads(node.config, this.ids[at - 1])) {
      request.set("after", Value.texts([this.ids[at - 1]]));
    }
    return request;
  }

  /** The operations where the last node takes in those before it. */
  private keep(node: Value): bool {
    for (let i = 0; i + 1 < this.ids.length; i++) this.made.remove("/edges/" + this.ids[i] + "->" + this.ids[i + 1]);
    this.lead(this.first.into, this.first.id, true);
    for (let i = 0; i + 1 < this.ids.length; i++) this.made.remove("/nodes/" + this.ids[i]);
    this.made.replace("/nodes/" + this.last.id, node);
    return true;
  }

  /** The operations where a node of another name stands for all. */
  private rename(node: Value): bool {
    this.made.add("/nodes/-", node);
    if (this.isChain) {
      for (let i = 0; i + 1 < this.ids.length; i++) this.made.remove("/edges/" + this.ids[i] + "->" + this.ids[i + 1]);
    } else {
      for (let i = 1; i < this.group.length; i++) {
        const other = this.group[i];
        for (let k = 0; k < other.into.length; k++) this.made.remove("/edges/" + other.into[k].from + "->" + other.id);
        for (let k = 0; k < other.out.length; k++) this.made.remove("/edges/" + other.id + "->" + other.out[k].to);
      }
    }
    this.lead(this.first.into, this.first.id, true);
    const end = this.isChain ? this.last : this.first;
    this.lead(end.out, end.id, false);
    for (let i = 0; i < this.graph.nodes.length; i++) {
      const reader = this.graph.nodes[i];
      if (!this.among.has(reader.id) && !this.reread(reader)) return false;
    }
    for (let i = 0; i < this.ids.length; i++) this.made.remove("/nodes/" + this.ids[i]);
    return true;
  }

  private lead(edges: Edge[], old: string, into: bool): void {
    for (let i = 0; i < edges.length; i++) {
      const edge = edges[i];
      this.made.replace("/edges/" + edge.from + "->" + edge.to + (into ? "/to" : "/from"), Value.text(this.id));
    }
  }

  /** Let a node read the fused answers; false when it cannot be told what it reads. */
  private reread(reader: Node): bool {
    for (let i = 0; i < reader.out.length; i++) if (this.isAmong(reader.out[i].names, reader)) return false;
    if (!reader.json.has("input") && reader.takesInput && !this.given(reader)) return false;
    if (!this.isAmong(reader.names, reader)) return true;
    if (this.graph.isFixed(reader.id) || reader.kind == "approval") return false;
    const parts = ["config", "input"];
    for (let i = 0; i < parts.length; i++) {
      if (!reader.json.has(parts[i])) continue;
      const old = reader.json.get(parts[i]);
      const value = rewritten(old, this.ids, "${nodes." + this.id + ".output.", "");
      if (this.isAmong(mentions(value), reader)) return false;
      if (!value.equals(old)) this.made.replace("/nodes/" + reader.id + "/" + parts[i], value);
    }
    // Nothing of them may be left: not in a fallback, a description or anything else.
    const left = mentions(reader.json.without("config").without("input"));
    return !this.isAmong(left, reader) && !reader.names.has(ANY);
  }

  private isAmong(named: Set<string>, reader: Node): bool {
    if (named.has(ANY)) return this.isAfter(reader);
    for (let i = 0; i < this.ids.length; i++) if (named.has(this.ids[i])) return true;
    return false;
  }

  private isAfter(node: Node): bool {
    const before = this.graph.before(node.id);
    for (let i = 0; i < this.ids.length; i++) if (before.has(this.ids[i])) return true;
    return false;
  }

  /** Spell out what a node is given without saying so, by the names it knows; false when that may not be there. */
  private given(reader: Node): bool {
    let some = false, all = true;
    const input = Value.object();
    for (let i = 0; i < reader.into.length; i++) {
      const from = reader.into[i].from;
      if (this.ids.includes(from)) some = true; else all = false;
      input.set(from, Value.text("${nodes." + this.id + ".output." + from + "}"));
    }
    if (!some) return true;
    const takes = ["function", "agent", "transform", "aggregate", "filter", "map", "subflow"];
    if (!all || !takes.includes(reader.kind) || this.graph.isFixed(reader.id)) return false;
    this.made.add("/nodes/" + reader.id + "/input", input);
    return true;
  }

  private tell(): void {
    const task = this.graph.task, n = this.ids.length;
    let sum: f64 = 0, most: f64 = 0, waits = false;
    const medians = Value.object();
    for (let i = 0; i < n; i++) {
      const ms = task.median(this.ids[i]);
      sum += ms;
      most = Math.max(most, ms);
      medians.set(this.ids[i], Value.number(ms));
      if (this.isChain && i && !(this.group[i].isPure && !reads(this.group[i].config, this.ids[i - 1]))) waits = true;
    }
    const hop = hopOf(this.graph);
    this.made.title = "One step for the requests " + listed(this.ids);
    this.made.reason = (this.isChain ? "They follow each other with nothing between them"
      : "They run at the same time, after the same steps and before the same ones")
      + ", and all of them only read. One node makes the same requests" + (this.isChain && waits ? " in the same order" : " at once")
      + " over the same connections; each is still recorded by itself. "
      + (this.keeps ? "What reads " + this.last.id + " finds there what it found before."
        : "What read them reads the answers in the output of " + this.id + ".");
    this.made.nodes = this.ids;
    this.made.steps = n - 1;
    if (task.runs > 0) this.made.ms = this.isChain ? hop * (n - 1) + (waits ? 0 : sum - most) : 0;
    this.made.evidence = Value.object().set("runs", Value.number(task.runs)).set("p50_ms", medians)
      .set("between_steps_ms", Value.number(hop)).set("steps_before", Value.int(n)).set("steps_after", Value.int(1));
  }
}

/** Time a run spends between two steps: what its longest way takes beside the steps on it. */
function hopOf(graph: Graph): f64 {
  const whole = graph.task.statistics.get("p50_ms").num(), way = new LongestWay(graph);
  return way.ms > 0 && whole > way.ms ? (whole - way.ms) / way.steps : 0;
}

// --- references ----------------------------------------------------------------------------------------------------

function reads(value: Value, id: string): bool { return mentions(value).has(id); }

/** A value in whose texts `${nodes.ID.output` of some ids begins otherwise; other spellings stay as they are. */
function rewritten(value: Value, ids: string[], before: string, after: string): Value {
  if (value.isText) {
    if (!value.raw.includes("${nodes.")) return value;
    let text = value.raw;
    for (let i = 0; i < ids.length; i++) text = renamed(text, "${nodes." + ids[i] + ".output", before + ids[i] + after);
    return text == value.raw ? value : Value.text(text);
  }
  if (!value.isList && !value.isObject) return value;
  const made = value.copy();
  for (let i = 0; i < made.items.length; i++) made.items[i] = rewritten(made.items[i], ids, before, after);
  return made;
}

function renamed(text: string, old: string, by: string): string {
  let made = "", done = 0;
  for (let at = text.indexOf(old); at >= 0; at = text.indexOf(old, at + 1)) {
    const next = at + old.length < text.length ? text.charCodeAt(at + old.length) : 0;
    const isEscaped = at > 0 && text.charCodeAt(at - 1) == 36;
    if (isEscaped || isName(next) || next == 45) continue;
    made += text.slice(done, at) + by;
    done = at + old.length;
  }
  return made + text.slice(done);
}
