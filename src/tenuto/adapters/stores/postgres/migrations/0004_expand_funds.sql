-- Money and places that many runs share: caps, what counts under them, holds of calls without a known outcome, and calls
-- that wait for room.
create table cap (
  ns text not null, scope text not null, period text not null, most bigint not null, warn_percent int not null,
  source text not null,
  primary key (ns, scope, period)
);
create table balance (
  ns text not null, scope text not null, win text not null, spent bigint not null default 0,
  held bigint not null default 0, unknown bigint not null default 0, overrun bigint not null default 0,
  warned boolean not null default false,
  primary key (ns, scope, win)
);
create table hold (
  run_id uuid not null, n int not null, ns text not null, step text not null, call text not null,
  usd bigint not null, slot text not null, places text not null, lost boolean not null default false, since bigint not null,
  primary key (run_id, n)
);
create table want (
  run_id uuid not null, step text not null, call text not null, ns text not null, usd bigint not null,
  project text not null, slot text not null, since bigint not null, told_at bigint not null default 0,
  primary key (run_id, step, call)
);
create index want_since on want (since);
