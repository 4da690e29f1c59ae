-- The tables of the first release. Ids of runs are UUIDv7, so keys grow with time.

-- Written at creation, claim, parking and end only. `due_at` is the time from which a run may be claimed, null when
-- it may not; `taken` numbers the claim, so that one whose answer got lost can be found again; `digest` is packed, see
-- `rows.packed_digest`.
create table run (
    id uuid primary key,
    created_at bigint not null,
    started_at bigint not null,
    finished_at bigint not null,
    wake_at bigint not null,
    due_at bigint,
    epoch int not null,
    inbox_seq int not null,
    taken int not null default 0,
    priority smallint not null,
    state text not null check (state in ('ready', 'owned', 'waiting', 'done')),
    status text not null,
    ns text not null,
    workflow text not null,
    digest bytea not null,
    worker text,
    goal text not null,
    labels jsonb not null,
    error text not null,
    parent text,
    replay_of text,
    business_key text
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

create index run_due on run (priority, due_at, id) where due_at is not null;
create index run_owned on run (worker) where state = 'owned';
create index run_listed on run (ns, created_at, id);
create index run_labels on run using gin (labels jsonb_path_ops) where labels <> '{}';
create index run_parent on run (parent) where parent is not null;
create index run_replay on run (replay_of) where replay_of is not null;
create unique index run_business on run (ns, business_key) where business_key is not null and state <> 'done';

-- The journal; its key is the fence. Append-only: rows leave only with their run.
create table rec (
    run_id uuid not null,
    seq int not null,
    epoch int not null,
    chain bytea not null,
    body bytea not null,
    primary key (run_id, seq)
) with (autovacuum_vacuum_insert_scale_factor = 0.1);
alter table rec alter column chain set storage plain;
alter table rec alter column body set storage main;

create table inbox (
    run_id uuid not null,
    n int not null,
    key text not null,
    body bytea not null,
    primary key (run_id, n),
    unique (run_id, key)
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500);

-- The newest state of a run, so that loading does not read its whole journal.
create table snapshot (
    run_id uuid primary key,
    seq int not null,
    body bytea not null
);

create table blob (
    digest text primary key,
    body bytea not null
);

create table ticket (
    ns text not null,
    id text not null,
    run_id uuid not null,
    step text not null,
    kind text not null,
    state text not null check (state in ('open', 'decided', 'closed')),
    message text not null,
    body bytea not null,
    answer bytea not null,
    created_at bigint not null,
    expires_at bigint not null,
    decided_at bigint not null,
    primary key (ns, id)
);
create index ticket_listed on ticket (ns, created_at, id);
create index ticket_open on ticket (ns, created_at, id) where state = 'open';
create index ticket_run on ticket (run_id);

-- Messages between runs; `taker` is the process that delivers a row until `taken_until`.
create table outbox (
    id bigint generated always as identity primary key,
    taken_until bigint not null default 0,
    taker bigint not null default 0,
    run_id uuid not null,
    ns text not null,
    target text not null,
    key text not null,
    kind text not null check (kind in ('create', 'send')),
    body bytea not null
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500);

-- Attempts for any worker; `taken_from` is the executor that died with it before `worker` took it.
create table task (
    id text primary key,
    run_id uuid not null,
    created_at bigint not null,
    attempt int not null,
    taken int not null default 0,
    ns text not null,
    step text not null,
    handler text not null,
    worker text,
    taken_from text,
    body bytea not null
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500);
create index task_free on task (created_at, id) where worker is null;
create index task_held on task (worker) where worker is not null;
create index task_run on task (run_id);

create table worker (
    id text primary key,
    host text not null,
    pid int not null,
    lease_until bigint not null,
    started_at bigint not null,
    manifest bytea not null
) with (fillfactor = 50);

create table workflow (
    ns text not null,
    name text not null,
    digest text not null,
    no bigint generated always as identity,
    created_at bigint not null,
    retired boolean not null default false,
    body bytea not null,
    primary key (ns, name, digest)
);
create index workflow_digest on workflow (ns, digest);

create table tag (
    ns text not null,
    name text not null,
    tag text not null,
    digest text not null,
    primary key (ns, name, tag)
);

create table idempotency (
    ns text not null,
    key text not null,
    digest text not null,
    run_id uuid not null,
    created_at bigint not null,
    primary key (ns, key)
);
create index idempotency_run on idempotency (run_id);

-- Who appends, and the groups each appended in order: 16 bytes of run and 4 of position for every record.
create table writer (
    id bigint generated always as identity primary key,
    created_at bigint not null
);
create table batch (
    writer bigint not null,
    n int not null,
    runs bytea not null,
    primary key (writer, n)
);
alter table batch alter column runs set storage external;

create table projection (
    name text not null,
    writer bigint not null,
    n int not null,
    primary key (name, writer)
) with (fillfactor = 50);

create table step_view (
    run_id uuid not null,
    started_at bigint not null,
    finished_at bigint not null,
    attempt int not null,
    step text not null,
    ns text not null,
    node text not null,
    kind text not null,
    status text not null,
    error text not null,
    projection text not null,
    primary key (run_id, step)
);
create index step_view_listed on step_view (started_at);
