// What crosses the border between Tenuto and a plug-in: a task in, suggestions out, as JSON in the plug-in's memory.

import { Value, parse } from "./json";

/** Version of the border; `abi` in the entry file says it. */
export const ABI: i32 = 1;

/** What Tenuto tells: see "The task" in the reference of the ABI. */
export class Task {
  workflow: Value;
  fixed: string[] = [];
  statistics: Value;
  limits: Value;
  settings: Value;

  constructor(task: Value) {
    this.workflow = task.get("workflow");
    this.statistics = task.get("statistics");
    this.limits = task.get("limits");
    this.settings = task.get("settings");
    const fixed = task.get("fixed").items;
    for (let i = 0; i < fixed.length; i++) this.fixed.push(fixed[i].str());
  }

  /** Completed runs that the statistics are of. */
  get runs(): f64 { return this.statistics.get("runs").num(); }

  /** What the steps of a node have shown; missing when none has ended. */
  shown(node: string): Value { return this.statistics.get("nodes").get(node); }

  /** Median time of a node's steps in milliseconds; 0 when nothing is known. */
  median(node: string): f64 { return this.shown(node).get("p50_ms").num(); }

  /** A number the operator set. */
  setting(name: string, otherwise: f64): f64 { return this.settings.get(name).num(otherwise); }
}

/** One patch with its reasons; whole in itself, for people accept or reject each alone. */
export class Suggestion {
  operations: Value[] = [];
  nodes: string[] = [];
  ms: f64 = 0;
  steps: f64 = 0;
  requests: f64 = 0;
  /** In millionths of a US dollar. */
  cost: f64 = 0;
  evidence: Value = Value.object();

  constructor(public rule: string, public title: string, public reason: string) {}

  /** Add an operation of JSON Patch; paths may go by ids: `/nodes/ID/config/…`, `/edges/FROM->TO`. */
  add(path: string, value: Value): void { this.operations.push(operation("add", path).set("value", value)); }
  replace(path: string, value: Value): void { this.operations.push(operation("replace", path).set("value", value)); }
  remove(path: string): void { this.operations.push(operation("remove", path)); }

  toValue(): Value {
    return Value.object()
      .set("rule", Value.text(this.rule))
      .set("title", Value.text(this.title))
      .set("reason", Value.text(this.reason))
      .set("operations", Value.list(this.operations))
      .set("nodes", Value.texts(this.nodes))
      .set("gain", Value.object()
        .set("ms", Value.number(this.ms)).set("steps", Value.number(this.steps)).set("requests", Value.number(this.requests))
        .set("cost_usd_micros", Value.number(this.cost)))
      .set("evidence", this.evidence);
  }
}

function operation(op: string, path: string): Value {
  return Value.object().set("op", Value.text(op)).set("path", Value.text(path));
}

/** Memory for a task; the sandbox asks for it before it writes one. */
export function allocate(size: i32): usize { return heap.alloc(<usize>size); }

/** The task that the sandbox wrote. */
export function taskAt(at: usize, size: i32): Task { return new Task(parse(at, size)); }

/** Where the answer is, as `run` returns it: the address in the upper half, the length in the lower one. */
export function answer(suggestions: Suggestion[]): u64 {
  const all: Value[] = [];
  for (let i = 0; i < suggestions.length; i++) all.push(suggestions[i].toValue());
  const bytes = String.UTF8.encode(Value.object().set("suggestions", Value.list(all)).toString());
  return (<u64>changetype<usize>(bytes) << 32) | <u64>bytes.byteLength;
}
