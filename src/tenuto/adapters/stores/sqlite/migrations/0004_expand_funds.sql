-- Money and places that many runs share: caps, what counts under them, holds of calls without a known outcome, and calls
-- that wait for room.
create table cap (
  ns text not null, scope text not null, period text not null, most integer not null, warn_percent integer not null,
  source text not null,
  primary key (ns, scope, period)
) without rowid;
create table balance (
  ns text not null, scope text not null, win text not null, spent integer not null default 0,
  held integer not null default 0, unknown integer not null default 0, overrun integer not null default 0,
  warned integer not null default 0,
  primary key (ns, scope, win)
) without rowid;
create table hold (
  run_id blob not null, n integer not null, ns text not null, step text not null, call text not null,
  usd integer not null, slot text not null, places text not null, lost integer not null default 0, since integer not null,
  primary key (run_id, n)
) without rowid;
create table want (
  run_id blob not null, step text not null, call text not null, ns text not null, usd integer not null,
  project text not null, slot text not null, since integer not null, told_at integer not null default 0,
  primary key (run_id, step, call)
) without rowid;
create index want_since on want (since);
