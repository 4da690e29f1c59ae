// JSON as the sandbox speaks it: read from memory, looked at, changed, written back. Numbers keep the digits they came with.

export const enum Kind { Missing, Null, Bool, Number, Text, List, Object }

/** A JSON value. What is not there is `Value.MISSING`, so that `node.get("config").get("url").text()` never fails. */
export class Value {
  static MISSING: Value = new Value(Kind.Missing);

  raw: string = "";
  items: Value[] = [];
  keys: string[] = [];

  constructor(public kind: Kind) {}

  static text(value: string): Value { const made = new Value(Kind.Text); made.raw = value; return made; }
  static bool(value: bool): Value { const made = new Value(Kind.Bool); made.raw = value ? "true" : "false"; return made; }
  static int(value: i64): Value { const made = new Value(Kind.Number); made.raw = value.toString(); return made; }
  /** A number with at most three decimals. */
  static number(value: f64): Value {
    const thousandths = <i64>Math.round(value * 1000);
    const sign = thousandths < 0 ? "-" : "";
    const size = thousandths < 0 ? -thousandths : thousandths;
    const rest = size % 1000;
    const made = new Value(Kind.Number);
    made.raw = sign + (size / 1000).toString() + (rest == 0 ? "" : "." + rest.toString().padStart(3, "0"));
    return made;
  }
  static list(items: Value[] = []): Value { const made = new Value(Kind.List); made.items = items; return made; }
  static texts(items: string[]): Value {
    const made = new Value(Kind.List);
    for (let i = 0; i < items.length; i++) made.items.push(Value.text(items[i]));
    return made;
  }
  static object(): Value { return new Value(Kind.Object); }

  get exists(): bool { return this.kind != Kind.Missing && this.kind != Kind.Null; }
  get isText(): bool { return this.kind == Kind.Text; }
  get isList(): bool { return this.kind == Kind.List; }
  get isObject(): bool { return this.kind == Kind.Object; }

  /** The member of a name. */
  get(key: string): Value {
    const at = this.keys.indexOf(key);
    return at < 0 ? Value.MISSING : this.items[at];
  }

  has(key: string): bool { return this.keys.includes(key); }

  /** Give a member a value, in its place or at the end; returns the object. */
  set(key: string, value: Value): Value {
    const at = this.keys.indexOf(key);
    if (at >= 0) { this.items[at] = value; return this; }
    this.keys.push(key);
    this.items.push(value);
    return this;
  }

  /** The text, or what stands for it. */
  str(otherwise: string = ""): string { return this.kind == Kind.Text ? this.raw : otherwise; }
  /** The number, or what stands for it. */
  num(otherwise: f64 = 0): f64 { return this.kind == Kind.Number ? parseFloat(this.raw) : otherwise; }
  /** Whether this is `true`. */
  get isTrue(): bool { return this.kind == Kind.Bool && this.raw == "true"; }

  /** The same object or list with members of its own; what is inside them is shared. */
  copy(): Value {
    const made = new Value(this.kind);
    made.raw = this.raw;
    made.items = this.items.slice(0);
    made.keys = this.keys.slice(0);
    return made;
  }

  /** The object without a member. */
  without(key: string): Value {
    const made = this.copy();
    const at = made.keys.indexOf(key);
    if (at >= 0) { made.keys.splice(at, 1); made.items.splice(at, 1); }
    return made;
  }

  equals(other: Value): bool {
    if (this.kind != other.kind || this.items.length != other.items.length || this.raw != other.raw) return false;
    for (let i = 0; i < this.items.length; i++) {
      if (this.kind == Kind.Object) {
        if (!this.items[i].equals(other.get(this.keys[i]))) return false;
      } else if (!this.items[i].equals(other.items[i])) return false;
    }
    return true;
  }

  /** Every text in it, keys apart. */
  everyText(found: string[] = []): string[] {
    if (this.kind == Kind.Text) found.push(this.raw);
    for (let i = 0; i < this.items.length; i++) this.items[i].everyText(found);
    return found;
  }

  write(out: string[]): void {
    if (this.kind == Kind.Text) { quote(this.raw, out); return; }
    if (this.kind == Kind.List || this.kind == Kind.Object) {
      const isObject = this.kind == Kind.Object;
      out.push(isObject ? "{" : "[");
      for (let i = 0; i < this.items.length; i++) {
        if (i) out.push(",");
        if (isObject) { quote(this.keys[i], out); out.push(":"); }
        this.items[i].write(out);
      }
      out.push(isObject ? "}" : "]");
      return;
    }
    out.push(this.kind == Kind.Number || this.kind == Kind.Bool ? this.raw : "null");
  }

  toString(): string { const out: string[] = []; this.write(out); return out.join(""); }
}

function quote(text: string, out: string[]): void {
  out.push('"');
  let done = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c >= 32 && c != 34 && c != 92) continue;
    if (i > done) out.push(text.slice(done, i));
    out.push(c == 34 ? '\\"' : c == 92 ? "\\\\" : c == 10 ? "\\n" : "\\u00" + (c < 16 ? "0" : "") + c.toString(16));
    done = i + 1;
  }
  if (done < text.length) out.push(done ? text.slice(done) : text);
  out.push('"');
}

/** Read the JSON in `size` bytes at an address; broken JSON ends the plug-in, for the sandbox sends none. */
export function parse(at: usize, size: i32): Value {
  cursor = at;
  end = at + size;
  const value = parseValue();
  skipSpace();
  assert(cursor == end);
  return value;
}

let cursor: usize = 0;
let end: usize = 0;

function peek(): u8 { return cursor < end ? load<u8>(cursor) : 0; }

function skipSpace(): void {
  for (let c = peek(); c == 32 || c == 10 || c == 13 || c == 9; c = peek()) cursor++;
}

function expect(c: u8): void { assert(peek() == c); cursor++; }

function parseValue(): Value {
  skipSpace();
  const c = peek();
  if (c == 34) return Value.text(parseText());
  if (c == 123) return parseObject();
  if (c == 91) return parseList();
  const start = cursor;
  for (let d = peek(); d > 32 && d != 44 && d != 93 && d != 125; d = peek()) cursor++;
  const word = String.UTF8.decodeUnsafe(start, cursor - start);
  const value = new Value(word == "null" ? Kind.Null : word == "true" || word == "false" ? Kind.Bool : Kind.Number);
  value.raw = value.kind == Kind.Null ? "" : word;
  assert(word.length > 0);
  return value;
}

function parseObject(): Value {
  const value = new Value(Kind.Object);
  expect(123);
  skipSpace();
  if (peek() == 125) { cursor++; return value; }
  while (true) {
    skipSpace();
    value.keys.push(parseText());
    skipSpace();
    expect(58);
    value.items.push(parseValue());
    skipSpace();
    if (peek() == 44) { cursor++; continue; }
    expect(125);
    return value;
  }
}

function parseList(): Value {
  const value = new Value(Kind.List);
  expect(91);
  skipSpace();
  if (peek() == 93) { cursor++; return value; }
  while (true) {
    value.items.push(parseValue());
    skipSpace();
    if (peek() == 44) { cursor++; continue; }
    expect(93);
    return value;
  }
}

function parseText(): string {
  expect(34);
  let start = cursor;
  let made = "";
  while (true) {
    const c = peek();
    assert(cursor < end);
    if (c == 34) {
      const last = String.UTF8.decodeUnsafe(start, cursor - start);
      cursor++;
      return made.length ? made + last : last;
    }
    if (c == 92) {
      made += String.UTF8.decodeUnsafe(start, cursor - start) + escaped();
      start = cursor;
    } else cursor++;
  }
}

function escaped(): string {
  cursor++;
  const c = peek();
  cursor++;
  if (c == 110) return "\n";
  if (c == 116) return "\t";
  if (c == 114) return "\r";
  if (c == 98) return "\b";
  if (c == 102) return "\f";
  if (c != 117) return String.fromCharCode(c);
  let code = 0;
  for (let i = 0; i < 4; i++, cursor++) {
    const d = peek();
    code = code * 16 + (d <= 57 ? d - 48 : (d | 32) - 87);
  }
  return String.fromCharCode(code);
}
