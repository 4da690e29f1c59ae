-- The tables of the first release. Ids of runs are the 16 bytes of their UUIDv7, so keys grow with time.

-- Written at creation, claim, parking and end only. `due_at` is the time from which a run may be claimed, null when
-- it may not.
create table run (
    id blob primary key,
    ns text not null,
    workflow text not null,
    digest text not null,
    state text not null check (state in ('ready', 'owned', 'waiting', 'done')),
    status text not null,
    priority integer not null,
    wake_at integer not null,
    due_at integer,
    worker text,
    epoch integer not null,
    inbox_seq integer not null,
    created_at integer not null,
    started_at integer not null,
    finished_at integer not null,
    goal text not null,
    labels text not null,
    parent text,
    replay_of text,
    error text not null,
    business_key text
) without rowid;

create index run_due on run (priority, due_at) where due_at is not null;
create index run_owned on run (worker) where state = 'owned';
create index run_listed on run (ns, created_at);
create index run_parent on run (parent) where parent is not null;
create index run_replay on run (replay_of) where replay_of is not null;
create unique index run_business on run (ns, business_key) where business_key is not null and state <> 'done';

-- The journal; its unique key is the fence. A rowid table: bodies of all runs follow each other on full pages, so a
-- group touches half the pages that it would touch in a table ordered by run.
create table rec (
    run_id blob not null,
    seq integer not null,
    epoch integer not null,
    chain blob not null,
    body blob not null,
    unique (run_id, seq)
);

create table inbox (
    run_id blob not null,
    n integer not null,
    key text not null,
    body blob not null,
    primary key (run_id, n),
    unique (run_id, key)
) without rowid;

-- The newest state of a run, so that loading does not read its whole journal.
create table snapshot (
    run_id blob primary key,
    seq integer not null,
    body blob not null
);

create table blob (
    digest text primary key,
    body blob not null
);

create table ticket (
    ns text not null,
    id text not null,
    run_id blob not null,
    step text not null,
    kind text not null,
    state text not null check (state in ('open', 'decided', 'closed')),
    message text not null,
    body blob not null,
    answer blob not null,
    created_at integer not null,
    expires_at integer not null,
    decided_at integer not null,
    primary key (ns, id)
);
create index ticket_listed on ticket (ns, created_at, id);
create index ticket_open on ticket (ns, created_at, id) where state = 'open';
create index ticket_run on ticket (run_id);

-- Messages between runs; `taker` is the process that delivers a row until `taken_until`.
create table outbox (
    id integer primary key autoincrement,
    taken_until integer not null default 0,
    taker integer not null default 0,
    ns text not null,
    target text not null,
    key text not null,
    kind text not null check (kind in ('create', 'send')),
    body blob not null
);

create table task (
    id text primary key,
    ns text not null,
    run_id blob not null,
    step text not null,
    attempt integer not null,
    handler text not null,
    body blob not null,
    worker text,
    created_at integer not null
);
create index task_listed on task (created_at, id);
create index task_run on task (run_id);

create table worker (
    id text primary key,
    host text not null,
    pid integer not null,
    lease_until integer not null,
    started_at integer not null,
    manifest blob not null
) without rowid;

create table workflow (
    no integer primary key,
    ns text not null,
    name text not null,
    digest text not null,
    body blob not null,
    created_at integer not null,
    retired integer not null default 0,
    unique (ns, name, digest)
);
create index workflow_digest on workflow (ns, digest);

create table tag (
    ns text not null,
    name text not null,
    tag text not null,
    digest text not null,
    primary key (ns, name, tag)
) without rowid;

create table idempotency (
    ns text not null,
    key text not null,
    digest text not null,
    run_id blob not null,
    created_at integer not null,
    primary key (ns, key)
) without rowid;
create index idempotency_run on idempotency (run_id);

-- Who appends, and the groups each appended in order: 16 bytes of run and 4 of position for every record. `tx` counts
-- transactions without records, so that one whose end got lost can be told from one that never happened.
create table writer (
    id integer primary key autoincrement,
    created_at integer not null,
    tx integer not null default 0
);
create table batch (
    writer integer not null,
    n integer not null,
    runs blob not null,
    primary key (writer, n)
) without rowid;

create table projection (
    name text not null,
    writer integer not null,
    n integer not null,
    primary key (name, writer)
) without rowid;

create table step_view (
    run_id blob not null,
    step text not null,
    started_at integer not null,
    finished_at integer not null,
    attempt integer not null,
    ns text not null,
    node text not null,
    kind text not null,
    status text not null,
    error text not null,
    projection text not null,
    primary key (run_id, step)
) without rowid;
create index step_view_listed on step_view (ns, started_at, run_id, step);
create index step_view_projection on step_view (projection);
