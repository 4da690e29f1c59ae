-- All SQL of the store. `-- name:` starts a statement and the comment under it says what it is for.
-- `{now}` is when the statement arrived, usable as an index condition; `{clock}` is this very moment.
-- `is not distinct from` instead of `=` and `limit 1` in a lateral query keep a plan, made while a table was empty,
-- from reading all of another index later; a test looks at the plans.
-- `{part}` is replaced by the part of that name; parts share the parameters of the statement they stand in.

-- part: now
(extract(epoch from statement_timestamp()) * 1000)::bigint
-- part: clock
(extract(epoch from clock_timestamp()) * 1000)::bigint

-- ============================================================================================== sessions

-- name: session
-- Prepare a connection for short, indexed statements and learn which backend serves it.
-- The plans must not depend on statistics that lag behind a young table: no scans of whole tables, no JIT.
select set_config('statement_timeout', $1, false), set_config('idle_in_transaction_session_timeout', $1, false),
       set_config('lock_timeout', $2, false), set_config('enable_seqscan', $3, false),
       set_config('enable_mergejoin', $3, false), set_config('enable_nestloop', $4, false),
       set_config('enable_bitmapscan', $4, false), set_config('plan_cache_mode', $5, false), set_config('jit', 'off', false),
       set_config('default_transaction_read_only', 'off', false),
       pg_backend_pid() as pid, pg_is_in_recovery() as standby,
       (select backend_start from pg_stat_activity where pid = pg_backend_pid()) as started

-- name: session_timeout
-- Change the statement timeout of a connection in use.
select set_config('statement_timeout', $1, false), set_config('idle_in_transaction_session_timeout', $1, false)

-- name: end_backend
-- End a lost connection's backend, so that it cannot commit any more; no row: it is gone.
select pg_terminate_backend(pid) from pg_stat_activity where pid = $1 and backend_start = $2

-- name: clock_now
-- The store's clock.
select {clock}

-- name: notify
-- Tell other processes that there is something to do.
select pg_notify($1, '')

-- ================================================================================================ schema

-- name: migration_table
-- Whether the list of applied schema steps exists.
select to_regclass('migration') is not null

-- name: migration_create
-- The list of applied schema steps.
create table if not exists migration (name text primary key, applied_at timestamptz not null default now())

-- name: migration_list
-- Which schema steps are applied.
select name from migration

-- name: migration_add
-- Note a schema step as applied.
insert into migration (name) values ($1)

-- name: migration_lock
-- One process changes the schema at a time; the lock ends with the transaction.
select pg_advisory_xact_lock(7310568411025)

-- =============================================================================================== commits

-- part: fenced_insert
-- The fence: a position that is taken is left out, and so is a record of an owner that was replaced or of no run.
-- A creation is record 1 of a run that has no row yet; a worker that creates a run for itself owns it at epoch 1.
ins as (
  insert into rec (run_id, seq, epoch, body, chain)
  select b.run_id, b.seq, b.epoch, b.body, b.chain
  from b left join run r on r.id = b.run_id and r.id = any($1::uuid[]) and true
  where r.epoch <= coalesce(b.fence, b.epoch) or (r.id is null and b.seq = 1)
  on conflict do nothing
  returning run_id, seq
)

-- part: listed
-- The group under its number, for those who follow all journals.
listed as (
  insert into batch (writer, n, runs)
  select $7::bigint, $8::int, coalesce((select string_agg(uuid_send(run_id) || int4send(seq), '') from ins), '')
  where $8::int > 0
  on conflict do nothing
)

-- part: accepted
-- Commits that stand: records inserted, and those without a record whose owner was not replaced.
solo as (
  select s.run_id
  from unnest($9::uuid[], $10::int[]) as s(run_id, fence) join run r on r.id = s.run_id and r.id = any($9::uuid[])
  where r.epoch <= s.fence
),
ok as (select run_id from ins union all select run_id from solo)

-- part: joined
-- What stands or falls with a record. Row changes are found by a sorted list of ids, so rows lock in id order.
upd as (
  update run r set
    state = p.state, status = p.status, wake_at = coalesce(p.wake_at, 0), error = coalesce(p.error, ''), worker = null,
    started_at = coalesce(nullif(p.started_at, 0), r.started_at), finished_at = coalesce(p.finished_at, 0),
    due_at = case when p.state = 'done' or (p.state = 'waiting' and coalesce(p.wake_at, 0) = 0) then null
                  when p.wake_at > 0 then p.wake_at else {now} end
  from unnest($11::uuid[], $12::int[], $13::int[], $14::text[], $15::text[], $16::bigint[], $17::text[],
              $18::bigint[], $19::bigint[])
         as p(run_id, epoch, inbox_seen, state, status, wake_at, error, started_at, finished_at)
       join ok on ok.run_id = p.run_id
  where r.id = p.run_id and r.id = any($11::uuid[]) and r.epoch = p.epoch and r.inbox_seq = p.inbox_seen
  returning r.id
),
eat as (
  delete from inbox where ctid = any(array(
    select i.ctid
    from unnest($20::uuid[], $21::int[]) as e(run_id, n) join ok on ok.run_id = e.run_id
         cross join lateral (select ctid from inbox i where i.run_id = e.run_id and i.n = e.n offset 0) i))
),
born as (
  insert into run (id, ns, workflow, digest, state, status, priority, wake_at, worker, epoch, inbox_seq, goal, labels,
                   parent, replay_of, error, business_key, created_at, started_at, finished_at, due_at)
  select n.id, n.ns, n.workflow, n.digest, n.state, n.status, coalesce(n.priority, 0), coalesce(n.wake_at, 0),
         n.worker, coalesce(n.epoch, 0), coalesce(n.inbox_seq, 0), coalesce(n.goal, ''), coalesce(n.labels, '{}'),
         n.parent, n.replay_of, coalesce(n.error, ''), n.business_key, coalesce(n.created_at, 0),
         coalesce(n.started_at, 0), coalesce(n.finished_at, 0),
         case when n.state = 'ready' then greatest(coalesce(n.wake_at, 0), least(coalesce(n.created_at, 0), {now}))
              when n.state = 'waiting' and n.wake_at > 0 then n.wake_at end
  from unnest($22::uuid[], $23::text[], $24::text[], $25::bytea[], $26::text[], $27::text[], $28::smallint[],
              $29::bigint[], $30::text[], $31::int[], $32::int[], $33::text[], $34::jsonb[], $35::text[], $36::text[],
              $37::text[], $38::text[], $39::bigint[], $40::bigint[], $41::bigint[])
         as n(id, ns, workflow, digest, state, status, priority, wake_at, worker, epoch, inbox_seq, goal, labels,
              parent, replay_of, error, business_key, created_at, started_at, finished_at)
  where exists (select from ins where ins.run_id = n.id)
)

-- part: answer
select k.n as n_ok, case when k.n < $42::int then k.ids end as ok, u.n as n_applied,
       case when u.n < cardinality($11::uuid[]) then u.ids end as applied
from (select count(*) as n, array_agg(run_id) as ids from ok) k,
     (select count(*) as n, array_agg(id) as ids from upd) u

-- part: records
unnest($1::uuid[], $2::int[], $3::int[], $4::bytea[], $5::bytea[], $6::int[]) as b(run_id, seq, epoch, body, chain, fence)

-- name: commit_records
-- Make a group durable that only appends; a plan this small starts in half the time.
with b as (select * from {records}),
{fenced_insert},
{listed}
select count(*) as n_ok, case when count(*) < cardinality($1::uuid[]) then array_agg(run_id) end as ok,
       0 as n_applied, null::uuid[] as applied
from ins

-- name: commit
-- Make a group durable: records, new runs, changes of ownership, consumed messages.
with b as (select * from {records}),
{fenced_insert},
{listed},
{accepted},
{joined}
{answer}

-- name: commit_full
-- The same with the rare rows; all of them join the inserted records, so a fenced commit leaves nothing behind.
-- A record that follows from time alone holds its run's row, so that no message gets in before it is stored.
with still as (
  select r.id
  from unnest($81::uuid[], $82::int[]) as c(run_id, seen) join run r on r.id = c.run_id and r.id = any($81::uuid[])
  where r.inbox_seq <= c.seen
  order by r.id for no key update of r
),
keyed as (
  insert into idempotency (run_id, ns, key, digest, created_at)
  select k.*, {now} from unnest($77::uuid[], $78::text[], $79::text[], $80::text[]) as k(run_id, ns, key, digest)
  on conflict do nothing
  returning run_id
),
b as (
  select b.* from {records}
    left join unnest($77::uuid[]) as k(run_id) on k.run_id = b.run_id
    left join keyed d on d.run_id = b.run_id
    left join unnest($81::uuid[]) as c(run_id) on c.run_id = b.run_id
    left join still s on s.id = b.run_id
  where (k.run_id is null or d.run_id is not null) and (c.run_id is null or s.id is not null)
),
{fenced_insert},
{listed},
{accepted},
{joined},
blobs as (
  insert into blob (digest, body)
  select distinct on (x.digest) x.digest, x.body
  from unnest($43::uuid[], $44::text[], $45::bytea[]) as x(run_id, digest, body)
  where x.run_id in (select run_id from ok)
  order by x.digest
  on conflict (digest) do update set orphan_at = 0 where blob.orphan_at <> 0
),
snapshots as (
  insert into snapshot (run_id, seq, body)
  select x.* from unnest($46::uuid[], $47::int[], $48::bytea[]) as x(run_id, seq, body)
  where x.run_id in (select run_id from ok)
  on conflict (run_id) do update set seq = excluded.seq, body = excluded.body where excluded.seq >= snapshot.seq
),
tickets as (
  insert into ticket (run_id, id, ns, step, kind, state, message, body, answer, created_at, expires_at, decided_at)
  select x.*
  from unnest($49::uuid[], $50::text[], $51::text[], $52::text[], $53::text[], $54::text[], $55::text[], $56::bytea[],
              $57::bytea[], $58::bigint[], $59::bigint[], $60::bigint[])
         as x(run_id, id, ns, step, kind, state, message, body, answer, created_at, expires_at, decided_at)
  where x.run_id in (select run_id from ok)
  on conflict (ns, id) do update set
    state = excluded.state,
    message = case when excluded.state = 'open' then excluded.message else ticket.message end,
    body = case when excluded.state = 'open' then excluded.body else ticket.body end,
    created_at = case when excluded.state = 'open' then excluded.created_at else ticket.created_at end,
    expires_at = case when excluded.state = 'open' then excluded.expires_at else ticket.expires_at end,
    answer = case when excluded.state = 'open' or ticket.state = 'open' or ticket.answer = '' then excluded.answer
                  else ticket.answer end,
    votes = case when excluded.state = 'open' then 0 else ticket.votes end,
    told = case when excluded.state = 'open' and excluded.created_at <> ticket.created_at then '' else ticket.told end,
    decided_at = case when excluded.state = 'open' or ticket.decided_at = 0 then excluded.decided_at
                      else ticket.decided_at end,
    unheard = false
  where excluded.state <> 'open' or not ticket.unheard
),
sent as (
  insert into outbox (run_id, ns, target, key, kind, body)
  select x.*
  from unnest($61::uuid[], $62::text[], $63::text[], $64::text[], $65::text[], $66::bytea[])
         as x(run_id, ns, target, key, kind, body)
  where x.run_id in (select run_id from ok)
),
offered as (
  insert into task (run_id, id, ns, step, attempt, handler, body, created_at)
  select x.run_id, x.id, x.ns, x.step, x.attempt, x.handler, x.body,
         case when x.created_at > 0 then x.created_at else {now} end
  from unnest($67::uuid[], $68::text[], $69::text[], $70::text[], $71::int[], $72::text[], $73::bytea[], $74::bigint[])
         as x(run_id, id, ns, step, attempt, handler, body, created_at)
  where x.run_id in (select run_id from ok)
  on conflict do nothing
),
withdrawn as (
  delete from task t using unnest($75::uuid[], $76::text[]) as x(run_id, id)
  where t.id = x.id and t.id = any($76::text[]) and x.run_id in (select run_id from ok)
),
patched as (
  update run r set digest = x.digest from unnest($83::uuid[], $84::bytea[]) as x(run_id, digest)
  where r.id = x.run_id and r.id = any($83::uuid[]) and x.run_id in (select run_id from ok)
)
{answer}

-- name: moved
-- Runs whose next position is free and whose owner was not replaced, but that got a message nobody has seen.
select r.id
from unnest($1::uuid[], $2::int[], $3::int[], $4::int[]) as c(run_id, epoch, seq, seen)
     join run r on r.id = c.run_id and r.id = any($1::uuid[])
where r.epoch <= c.epoch and r.inbox_seq > c.seen
  and (select true from rec where rec.run_id = c.run_id and rec.seq = c.seq limit 1) is null

-- name: chains
-- Read back what stands at some positions, to tell our records from another owner's.
select r.run_id, r.chain
from unnest($1::uuid[], $2::int[]) as b(run_id, seq)
     cross join lateral (select run_id, chain from rec r where r.run_id = b.run_id and r.seq = b.seq limit 1) r

-- name: owners
-- Who may move some runs now.
select id, epoch, state, inbox_seq from run where id = any($1::uuid[])

-- name: writer
-- A number of our own under which groups are listed.
insert into writer (created_at) values ({now}) returning id

-- name: idempotent_run
-- The run made under an idempotency key, and the digest of the body it was asked with.
select run_id, digest, answer from idempotency where ns = $1 and key = $2

-- name: business_run
-- The unfinished run with a business key.
select id from run where ns = $1 and business_key = $2 and state <> 'done'

-- =============================================================================================== reading

-- name: snapshots
-- Newest states of some runs.
select run_id, seq, body from snapshot where run_id = any($1::uuid[])

-- name: histories
-- Records after a position, for some runs, in order.
select r.*
from unnest($1::uuid[], $2::int[]) as u(run_id, after)
     cross join lateral (select run_id, seq, epoch, body, chain from rec r
                         where r.run_id = u.run_id and r.seq > u.after order by r.seq) r

-- name: records
-- A page of one journal.
select seq, epoch, body, chain from rec where run_id = $1 and seq > $2 order by seq limit $3

-- name: get_blobs
-- Stored values by digest.
select digest, body from blob where digest = any($1::text[])

-- name: put_blobs
-- Store values under their digests; whatever stores one uses it.
insert into blob (digest, body) select * from unnest($1::text[], $2::bytea[])
on conflict (digest) do update set orphan_at = 0 where blob.orphan_at <> 0

-- part: run_columns
id, ns, workflow, digest, state, status, priority, wake_at, worker, epoch, inbox_seq, goal, labels, parent, replay_of,
error, business_key, created_at, started_at, finished_at

-- name: get_run
-- One run's row.
select {run_columns} from run where id = $1

-- name: list_runs
-- A page of runs, newest first.
select {run_columns} from run
where ns = $1
  and ($2::text[] is null or status = any($2))
  and ($3::text is null or workflow = $3)
  and ($4::bytea is null or digest = $4)
  and ($5::jsonb is null or (labels @> $5 and labels <> '{}'))
  and ($6::text is null or replay_of = $6)
  and ($7::text is null or parent = $7)
  and ($8::text = '' or position(lower($8) in lower(goal)) > 0 or position(lower($8) in id::text) > 0)
  and ($9::bigint = 0 or created_at > $9)
  and ($10::bigint = 0 or created_at < $10)
  and ($11::bigint is null or (created_at, id) < ($11, $12::uuid))
order by created_at desc, id desc
limit $13

-- name: count_runs
-- How many runs have each status.
select status, count(*) from run where ns = $1 group by status

-- name: delete_runs
-- Delete ended runs with all they own; a run that another one replays stays, for that one reads its outcomes.
with gone as (
  select id from run
  where ns = $1 and state = 'done' and ($2::uuid is null or id = $2)
    and ($3::bigint = 0 or (finished_at < $3 and created_at < $3))
    and (select true from run f where f.replay_of = run.id::text limit 1) is null
  order by created_at, id limit $4 for update skip locked
),
r as (delete from rec where run_id = any(array(select id from gone))),
i as (delete from inbox where run_id = any(array(select id from gone))),
s as (delete from snapshot where run_id = any(array(select id from gone))),
t as (delete from ticket where run_id = any(array(select id from gone))),
n as (delete from notification where run_id = any(array(select id from gone))),
k as (delete from task where run_id = any(array(select id from gone))),
d as (delete from idempotency where run_id = any(array(select id from gone))),
v as (delete from step_view where run_id = any(array(select id from gone))),
f as (delete from deleted_finding where run_id = any(array(select id from gone))),
x as (delete from run where id = any(array(select id from gone)) returning id)
select count(*) from x

-- name: stats
-- Sizes and counts for a person who looks after the database.
select current_setting('server_version') as version,
       current_setting('fsync') as fsync,
       current_setting('synchronous_commit') as synchronous_commit,
       current_setting('full_page_writes') as full_page_writes,
       pg_database_size(current_database()) as bytes,
       (select count(*) from run) as runs,
       (select greatest(reltuples, 0)::bigint from pg_class where oid = 'rec'::regclass) as records_estimated,
       pg_total_relation_size('rec') as rec_bytes,
       pg_total_relation_size('run') as run_bytes,
       pg_total_relation_size('batch') as batch_bytes,
       pg_total_relation_size('blob') as blob_bytes,
       (select count(*) from inbox) as inbox,
       (select count(*) from outbox) as outbox,
       (select count(*) from task) as tasks,
       (select count(*) from ticket where state = 'open') as open_tickets,
       (select count(*) from notification where state = 'failed') as failed_notifications,
       (select count(*) from worker) as workers

-- =========================================================================================== definitions

-- name: put_workflow
-- Store a version if it is new.
insert into workflow (ns, name, digest, body, created_at)
values ($1, $2, $3, $4, case when $5::bigint > 0 then $5 else {now} end)
on conflict do nothing

-- name: get_definition
-- A version's canonical JSON.
select body from workflow where ns = $1 and digest = $2 limit 1

-- name: list_workflows
-- Versions with their tags, newest first.
select w.ns, w.name, w.digest, w.body, w.created_at, w.retired,
       array(select tag from tag t where t.ns = w.ns and t.name = w.name and t.digest = w.digest order by tag) as tags
from workflow w
where w.ns = $1 and ($2::text is null or w.name = $2)
order by w.created_at desc, w.no desc

-- name: resolve_tag
-- The digest a tag points at; a digest of the workflow resolves to itself.
select digest from (
  select digest, 0 as rank from tag where ns = $1 and name = $2 and tag = $3
  union all
  select digest, 1 from workflow where ns = $1 and name = $2 and digest = $3) t
order by rank limit 1

-- name: move_tag
-- Let a tag point at a version, if it still points where it did; store the version, if given, and remember the move.
with moved as (
  insert into tag (ns, name, tag, digest)
  select $1, $2, $3, $4
  where $5::text = '' or exists (select from tag where ns = $1 and name = $2 and tag = $3 and digest = $5)
  on conflict (ns, name, tag) do update set digest = excluded.digest where $5 <> '' and tag.digest = $5
  returning ns
),
version as (
  insert into workflow (ns, name, digest, body, created_at)
  select $1, $2, $4, $12::bytea, case when $13::bigint > 0 then $13 else {now} end from moved where $12::bytea is not null
  on conflict do nothing
),
noted as (
  insert into tag_move (ns, name, tag, n, digest, former, kind, by, author, reason, ops, evidence, at)
  select $1, $2, $3, 1 + coalesce((select max(n) from tag_move where ns = $1 and name = $2 and tag = $3), 0),
         $4, $5, $6, $7, $8, $9, $10, $11, {now}
  from moved
)
select count(*) > 0 from moved

-- name: tag_moves
-- Where a workflow's tags have been, or one.
select ns, name, tag, n, digest, former, kind, by, author, reason, ops, evidence, at from tag_move
where ns = $1 and name = $2 and ($3::text is null or tag = $3) order by tag, n

-- name: retire_workflow
-- Mark versions as not startable.
with w as (
  update workflow set retired = true
  where ns = $1 and name = $2 and ($3::text is null or digest = $3) and not retired
  returning 1)
select count(*) from w

-- ============================================================================================= ownership

-- name: register
-- Announce a worker with a lease from now; those that ended more than a day ago are forgotten.
with old as (delete from worker where lease_until < {clock} - 86400000 and id <> $1)
insert into worker (id, host, pid, started_at, manifest, lease_until)
values ($1, $2, $3, case when $4::bigint > 0 then $4 else {clock} end, $5, {clock} + $6::bigint)
on conflict (id) do update set host = excluded.host, pid = excluded.pid, started_at = excluded.started_at,
  manifest = excluded.manifest, lease_until = excluded.lease_until
returning {clock}

-- name: heartbeat
-- Extend a lease that has not ended.
update worker set lease_until = {clock} + $2::bigint where id = $1 and lease_until > {clock} returning {clock}

-- name: unregister
-- Remove a worker; its runs have no living owner from now on.
delete from worker where id = $1

-- name: workers
-- All workers with their leases.
select id, host, pid, lease_until, started_at, manifest from worker order by started_at, id

-- name: adopt
-- End a lease because the process is dead; say how many runs it owned.
with w as (delete from worker where id = $1)
select count(*) from run where state = 'owned' and worker = $1

-- part: claimable_of
select due_at, id from run
  where due_at is not null and priority = v.priority and due_at <= {now} and digest <> all($3::bytea[])
  order by due_at, id limit $2

-- part: claim_of
select id, status as before, due_at + priority * 60000 as turn from run
  where due_at is not null and due_at <= {now} and digest <> all($3::bytea[])

-- part: claim_answer
run.id, ns, epoch, digest, inbox_seq

-- name: claim
-- Take ready or due runs: first by priority, softened by a minute of waiting a step, then the longest waiting.
-- A worker whose lease has ended takes nothing. The first part only counts how many of each priority are due their turn; the others lock exactly that many.
with turn as (
  select count(*) filter (where priority = 0) as n0, count(*) filter (where priority = 1) as n1,
         count(*) filter (where priority = 2) as n2
  from (select v.priority
        from (values (0), (1), (2)) as v(priority) cross join lateral ({claimable_of}) c
        where exists (select from worker w where w.id = $1 and w.lease_until > {clock})
        order by c.due_at + v.priority * 60000, c.id limit $2) t
),
c0 as ({claim_of} and priority = 0 order by due_at, id limit (select n0 from turn) for update skip locked),
c1 as ({claim_of} and priority = 1 order by due_at, id limit (select n1 from turn) for update skip locked),
c2 as ({claim_of} and priority = 2 order by due_at, id limit (select n2 from turn) for update skip locked),
c as (select * from c0 union all select * from c1 union all select * from c2)
update run set state = 'owned', status = 'running', worker = $1, epoch = epoch + 1, taken = $4, due_at = null, wake_at = 0
from c where run.id = c.id and run.id = any(array(select id from c))
returning {claim_answer}, c.before, c.turn

-- name: claimed
-- Find again what a claim took whose answer got lost; what the rows said before is lost with it.
select {claim_answer}, '' as before, 0::bigint as turn from run where state = 'owned' and worker = $1 and taken = $2

-- part: dead_owners
-- Owners of runs without a running lease, found by hopping over the index of owned runs, not by reading it all.
recursive owner(worker) as (
  (select worker from run where state = 'owned' order by worker limit 1)
  union all
  select (select r.worker from run r where r.state = 'owned' and r.worker > o.worker order by r.worker limit 1)
  from owner o where o.worker is not null
),
dead as (
  select worker from owner o
  where worker is not null
    and not exists (select from worker w where w.id = o.worker and w.lease_until > {clock})
)

-- name: stealable
-- Runs whose owner's lease has ended, with the last record of each.
with {dead_owners}
select r.*, h.seq, h.chain, h.body, {clock} as now
from dead d
     cross join lateral (select id, epoch, worker from run r where r.state = 'owned' and r.worker = d.worker limit $1) r
     left join lateral (select seq, chain, body from rec where rec.run_id = r.id order by seq desc limit 1) h on true
limit $1

-- name: head
-- The last record of a run that can still be stolen as read before.
select r.id, r.epoch, r.worker, h.seq, h.chain, h.body, {clock} as now
from run r
     left join lateral (select seq, chain, body from rec where rec.run_id = r.id order by seq desc limit 1) h on true
where r.id = $1 and r.epoch = $2 and r.state is not distinct from 'owned'

-- name: owned
-- Runs of a worker.
select id, epoch from run where state = 'owned' and worker = $1

-- name: own_heads
-- Some runs of a worker in given epochs, with the last record of each.
select r.id, r.epoch, r.worker, h.seq, h.chain, h.body, {clock} as now
from unnest($2::uuid[], $3::int[]) as c(run_id, epoch)
     join run r on r.id = c.run_id and r.epoch = c.epoch and r.id = any($2::uuid[])
     left join lateral (select seq, chain, body from rec where rec.run_id = r.id order by seq desc limit 1) h on true
where r.state = 'owned' and r.worker = $1

-- name: steal
-- Take runs from dead owners, or from ourselves, and occupy the positions those would write next; runs that moved on
-- are left out.
with v as (
  select * from unnest($1::uuid[], $2::int[], $3::int[], $4::bytea[], $5::bytea[]) as v(run_id, epoch, seq, body, chain)
),
old as (
  select r.id from run r join v on v.run_id = r.id and v.epoch = r.epoch
  where r.id = any($1::uuid[]) and r.state is not distinct from 'owned'
    and (r.worker = $6 or not exists (select from worker w where w.id = r.worker and w.lease_until > {clock}))
    and exists (select from worker w where w.id = $6 and w.lease_until > {clock})
  for update of r skip locked
),
ins as (
  insert into rec (run_id, seq, epoch, body, chain)
  select v.run_id, v.seq, v.epoch + 1, v.body, v.chain from v join old on old.id = v.run_id
  on conflict do nothing returning run_id, seq
),
listed as (
  insert into batch (writer, n, runs)
  select $8::bigint, $9::int, string_agg(uuid_send(run_id) || int4send(seq), '') from ins having count(*) > 0
  on conflict do nothing
)
update run set epoch = epoch + 1, worker = $6, taken = $7 from ins
where run.id = ins.run_id and run.id = any($1::uuid[])
returning {claim_answer}

-- name: poll
-- All an idle worker must know.
with {dead_owners}
select
  exists (select from run where due_at is not null and priority = 0 and due_at <= {now})
    or exists (select from run where due_at is not null and priority = 1 and due_at <= {now})
    or exists (select from run where due_at is not null and priority = 2 and due_at <= {now}) as claimable,
  array(select r.id from run r cross join lateral (select from inbox i where i.run_id = r.id limit 1) i
        where r.state = 'owned' and r.worker = $1) as inbox,
  exists (select from dead) as expired,
  exists (select from outbox where taken_until <= {now} or taker = $2) as outbox,
  exists (select from task where worker is null)
    or exists (select from task t where worker is not null
                 and not exists (select from worker w where w.id = t.worker and w.lease_until > {now})) as tasks,
  exists (select from want) as waiters,
  {clock} as now

-- ============================================================================================== messages

-- part: reopens_status
status in ('failed', 'budget_exceeded')

-- part: receive
-- Number the message and make the run claimable when it waits.
update run r set
    inbox_seq = inbox_seq + 1,
    due_at = case when r.state in ('waiting', 'done') then {now} else r.due_at end,
    wake_at = case when r.state in ('waiting', 'done') then 0 else r.wake_at end,
    state = case when r.state in ('waiting', 'done') then 'ready' else r.state end

-- name: send
-- Put a message in an inbox once per key and make a waiting run claimable; keep its idempotency key if it has one.
with r as (
  {receive}
  where r.id = $1 and (r.state <> 'done' or ($4 and {reopens_status}))
    and not exists (select from inbox i where i.run_id = $1 and i.key = $2)
    and not exists (select from idempotency where ns = $5 and key = $6)
  returning r.inbox_seq
),
i as (insert into inbox (run_id, n, key, body) select $1, r.inbox_seq, $2, $3 from r),
k as (
  insert into idempotency (run_id, ns, key, digest, created_at, answer)
  select $1, $5::text, $6::text, $7::text, {now}, $8::text from r where $6::text is not null
)
select case when exists (select from r) then 'accepted'
            when exists (select from inbox where run_id = $1 and key = $2) then 'duplicate'
            when exists (select from idempotency where ns = $5 and key = $6) then 'duplicate'
            when exists (select from run where id = $1) then 'terminal'
            else 'missing' end

-- name: inbox
-- Unread messages in order.
select n, key, body from inbox where run_id = $1 and n > $2 order by n

-- name: outbox
-- Undelivered messages, oldest first, held for a moment so that others pass them over.
with o as (
  select id from outbox where taken_until <= {now} or taker = $2 order by id limit $1 for update skip locked
)
update outbox set taker = $2, taken_until = {now} + 5000 from o where outbox.id = o.id
returning outbox.id, ns, target, key, kind, body

-- name: delivered
-- Forget delivered messages.
delete from outbox where id = any($1::bigint[])

-- name: tickets
-- A page of tickets, newest first.
select id, ns, run_id, step, kind, state, message, body, answer, created_at, expires_at, decided_at, votes
from ticket
where ns = $1 and ($2::text is null or kind = $2) and ($3::text is null or state = $3)
  and ($4::uuid is null or run_id = $4)
  and ($5 = '' or (created_at, id) < (select t.created_at, t.id from ticket t where t.ns = $1 and t.id = $5))
order by created_at desc, id desc
limit $6

-- name: get_ticket
-- One ticket.
select id, ns, run_id, step, kind, state, message, body, answer, created_at, expires_at, decided_at, votes
from ticket where ns = $1 and id = $2

-- name: decide_ticket
-- Answer an open ticket and tell its run unless that has ended. No row: it was not open, or had other answers.
with t as (
  update ticket set state = case when $7 then 'decided' else state end, answer = $3,
                    decided_at = case when $7 then {now} else decided_at end, unheard = $7, votes = votes + 1
  where ns = $1 and id = $2 and state = 'open' and votes = $6
  returning *
),
r as (
  {receive}
  where r.id = (select run_id from t) and r.state <> 'done'
    and not exists (select from inbox i where i.run_id = r.id and i.key = $4)
  returning r.id, r.inbox_seq
),
i as (insert into inbox (run_id, n, key, body) select r.id, r.inbox_seq, $4, $5 from r)
select id, ns, run_id, step, kind, state, message, body, answer, created_at, expires_at, decided_at, votes from t

-- name: ticket_news
-- Tickets of which something is to be told, with what was planned and what is next.
select id as ticket, created_at as asked, told,
       case when state <> 'open' then state when told = '' then 'opened' else 'expiring' end as next
from ticket
where ns = $1 and told not in ('decided', 'closed')
  and (state <> 'open' or told = ''
       or (told = 'opened' and expires_at > 0
           and expires_at - least($2::bigint, (expires_at - created_at) / 4) <= {now}))
order by created_at, id limit $3

-- name: ticket_told
-- Note what was planned to be told of a ticket and keep the messages, unless others did or it was asked anew.
with t as (
  update ticket set told = $5 where ns = $1 and id = $2 and created_at = $3 and told = $4 returning id
),
i as (
  insert into notification (ns, id, ticket, run_id, asked, event, channel, lane, body, state, attempts, due_at, held_until,
                            error, created_at, ended_at)
  select $1, x.id, x.ticket, x.run_id, x.asked, x.event, x.channel, x.lane, x.body, 'due', 0, {now}, 0, '', {now}, 0
  from unnest($6::text[], $7::text[], $8::uuid[], $9::bigint[], $10::text[], $11::text[], $12::text[], $13::bytea[])
       with ordinality as x(id, ticket, run_id, asked, event, channel, lane, body, place)
  where exists (select from t)
  order by x.place
  on conflict do nothing
)
select count(*) from t

-- part: notification_columns
id, ns, ticket, run_id, asked, event, channel, lane, body, state, attempts, due_at, error, created_at, ended_at

-- name: take_notifications
-- Messages to be sent now, the first of each lane only, held so that others pass them over.
update notification set held_until = {now} + $3, attempts = attempts + 1
where n in (
  select n from notification q
  where ns = $1 and state = 'due' and due_at <= {now} and held_until <= {now}
    and not exists (select from notification p where p.ns = q.ns and p.lane = q.lane and p.state = 'due' and p.n < q.n)
  order by n limit $2 for update skip locked
)
returning n, {notification_columns}

-- name: settle_notification
-- Note what came of a try, unless others try by now.
update notification set state = $4, due_at = {now} + $5, error = $6, held_until = 0,
                        ended_at = case when $4 = 'due' then 0 else {now} end
where ns = $1 and id = $2 and state = 'due' and attempts = $3
returning n

-- name: notifications
-- A page of messages to people, newest first.
select {notification_columns} from notification
where ns = $1 and ($2::text is null or state = $2) and ($3::text is null or ticket = $3)
  and ($4 = '' or n < (select p.n from notification p where p.ns = $1 and p.id = $4))
order by n desc limit $5

-- name: resend_notification
-- Make a message due that was sent or given up, and return it as it then is.
with again as (
  update notification set state = 'due', attempts = 0, due_at = {now}, held_until = 0, error = '', ended_at = 0
  where ns = $1 and id = $2 and state <> 'due'
  returning {notification_columns}
)
select * from again
union all
select {notification_columns} from notification
where ns = $1 and id = $2 and state = 'due'

-- name: take_tasks
-- Take attempts that wait, or whose executor's lease has ended; name that executor.
with t as (
  select id, worker as before from task
  where handler = any($3::text[])
    and (worker is null
         or not exists (select from worker w where w.id = task.worker and w.lease_until > {clock}))
  order by created_at, id limit $2 for update skip locked
)
update task set worker = $1, taken = $4, taken_from = t.before from t where task.id = t.id
returning task.id, ns, run_id, step, attempt, handler, body, taken_from as worker, created_at

-- name: taken_tasks
-- Find again what was taken when the answer got lost.
select id, ns, run_id, step, attempt, handler, body, taken_from as worker, created_at
from task where worker = $1 and taken = $2

-- name: drop_task
-- Remove an attempt we hold.
delete from task where id = $1 and worker = $2 returning true

-- ================================================================================================ upkeep

-- name: prune_tail
-- Forget groups that every projection is past and that were their writer's newest long enough ago, then note which are
-- the newest now. Each writer keeps one group, so that its number is known.
with old as (
  select w.id, least(w.mark, s.n, b.n - 1) as upto, b.n as newest
  from writer w
    cross join lateral (select n from batch b where b.writer = w.id order by n desc limit 1) b
    cross join lateral (
      select coalesce(min(coalesce(p.n, 0)), 0) as n
      from (select distinct name from projection) k left join projection p on p.name = k.name and p.writer = w.id) s
  where w.marked_at <= {now} - $1::bigint
),
gone as (
  delete from batch where ctid = any(array(
    select b.ctid
    from old cross join lateral (select ctid from batch b where b.writer = old.id and b.n <= old.upto
                                 order by b.n limit $2) b
    limit $2))
  returning 1
),
marked as (
  update writer w set mark = old.newest, marked_at = {now} from old
  where w.id = old.id and (select count(*) from gone) < $2::bigint
)
select count(*) from gone

-- name: prune_keys
-- Forget idempotency keys of long ago.
with gone as (
  delete from idempotency where ctid = any(array(
    select ctid from idempotency where created_at < $1 limit $2))
  returning 1
)
select count(*) from gone

-- name: run_ids
-- Ids of runs in order.
select id from run where ($1::uuid is null or id > $1) order by id limit $2

-- part: names_blob
position('sha256:'::bytea in body) > 0

-- name: moving
-- Messages and attempts under way that may name blobs. One moment shows them all, so nothing moves on unseen.
select body from outbox where {names_blob}
union all select body from task where {names_blob}
union all select body from inbox where {names_blob}
union all select convert_to(names, 'UTF8') from cache_entry where names <> ''

-- name: naming
-- Records of some runs that may name blobs.
select body from rec where run_id = any($1::uuid[]) and {names_blob}

-- name: blobs_naming
-- The names in values that name others; values themselves may be long.
select digest, convert_to(array_to_string(array(
  select found[1] from regexp_matches(encode(body, 'escape'), 'sha256:[0-9a-f]+', 'g') as found
), ','), 'UTF8') as body
from (select digest, body from blob where digest > $1 and {names_blob} order by digest limit $2) as naming
order by digest

-- name: list_blobs
-- Digests in order.
select digest from (
  (select digest from blob where digest > $1 order by digest limit $2)
  union (select name from artifact where name > $1 order by name limit $2)
) as known order by digest limit $2

-- name: sweep_blobs
-- Note which values are used, delete those unused for long, note which others seem unused.
with used as (update blob set orphan_at = 0 where digest = any($1::text[]) and orphan_at <> 0),
gone as (
  delete from blob where digest = any($2::text[]) and orphan_at between 1 and $3::bigint - 1
  returning 1
),
unused as (update blob set orphan_at = {now} where digest = any($2::text[]) and orphan_at = 0),
used_too as (update artifact set orphan_at = 0 where name = any($1::text[]) and orphan_at <> 0),
gone_too as (
  delete from artifact where name = any($2::text[]) and orphan_at between 1 and $3::bigint - 1
  returning place
),
places as (insert into artifact_place (place, since) select place, 0 from gone_too),
unused_too as (update artifact set orphan_at = {now} where name = any($2::text[]) and orphan_at = 0)
select (select count(*) from gone) + (select count(*) from gone_too)

-- ============================================================================================= artifacts

-- name: place_begin
-- A place that is being filled.
insert into artifact_place (place, since) values ($1, {now})

-- name: artifact_put
-- An artifact whose place is filled and was not given up; one that is known stands, unless its bytes are lost.
with ended as (delete from artifact_place where place = $4 and since > 0 returning place),
put as (
  insert into artifact (ns, name, size, place, body, created_at)
  select $1, $2, $3::bigint, place, $5::bytea, {now} from ended
  on conflict (ns, name) do update set orphan_at = 0,
    created_at = case when artifact.place = $6::text then excluded.created_at else artifact.created_at end,
    place = case when artifact.place = $6::text then excluded.place else artifact.place end
  returning name, size, place, body, created_at
),
nobodys as (
  insert into artifact_place (place, since)
  select $4, 0 from put where place <> $4
  union all select $6::text, 0 from put where place = $4 and $6::text is not null
  on conflict do nothing
)
select name, size, place, body, created_at from put

-- name: artifact_renew
-- Note that an artifact is used.
update artifact set orphan_at = 0 where ns = $1 and name = $2 returning name, size, place, body, created_at

-- name: artifact
-- One artifact.
select name, size, place, body, created_at from artifact where ns = $1 and name = $2

-- name: artifact_list
-- Artifacts of a namespace, newest first.
select name, size, place, body, created_at from artifact where ns = $1 and (created_at, name) < ($2::bigint, $3::text)
order by created_at desc, name desc limit $4

-- name: place_stale
-- Places that were being filled for too long are given up; those that are nobody's.
with given_up as (update artifact_place set since = 0 where since between 1 and $1::bigint - 1 returning place)
select place from given_up union select place from artifact_place where since = 0 limit $2

-- name: place_forget
-- Places that are empty.
delete from artifact_place where since = 0 and place = any($1::text[])

-- =========================================================================================== projections

-- name: tail
-- Groups after each writer's cursor.
select b.writer, b.n, b.runs
from writer w
     left join unnest($1::bigint[], $2::int[]) as c(writer, n) on c.writer = w.id
     cross join lateral (select * from batch b where b.writer = w.id and b.n > coalesce(c.n, 0) order by b.n limit $3) b
order by b.writer, b.n
limit $3

-- name: tail_heads
-- Each writer's newest group.
select w.id, b.n
from writer w cross join lateral (select n from batch b where b.writer = w.id order by n desc limit 1) b

-- name: project_steps
-- Upsert rows of the view of steps, of runs that still exist, and the cursors they were made from.
with v as (
  insert into step_view (projection, ns, run_id, step, node, kind, status, attempt, started_at, finished_at, error, as_of,
                         reused, cache, stored, saved_ms, saved_usd_micros)
  select $1, x.*
  from unnest($2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int[], $9::bigint[],
              $10::bigint[], $11::text[], $12::int[], $13::boolean[], $14::text[], $15::boolean[],
              $16::bigint[], $17::bigint[])
         as x(ns, run_id, step, node, kind, status, attempt, started_at, finished_at, error, as_of,
              reused, cache, stored, saved_ms, saved_usd_micros)
  where (select true from run r where r.id = x.run_id limit 1)
  on conflict (run_id, step) do update set
    projection = excluded.projection, ns = excluded.ns, node = excluded.node, kind = excluded.kind,
    status = excluded.status, attempt = excluded.attempt, started_at = excluded.started_at,
    finished_at = excluded.finished_at, error = excluded.error, as_of = excluded.as_of, reused = excluded.reused,
    cache = excluded.cache,
    stored = excluded.stored, saved_ms = excluded.saved_ms, saved_usd_micros = excluded.saved_usd_micros
  where excluded.as_of >= step_view.as_of
)
insert into projection (name, writer, n) select $1, x.* from unnest($18::bigint[], $19::int[]) as x(writer, n)
on conflict (name, writer) do update set n = excluded.n where excluded.n > projection.n

-- name: projection_cursors
-- Where a projection stands.
select writer, n from projection where name = $1

-- name: reset_projection
-- Forget a projection's rows and cursors; calls of runs that are gone, and bills, cannot be made anew and stay.
with v as (delete from step_view where projection = $1),
u as (delete from usage where projection = $1 and as_of < 2147483647 and run_id in (select id from run))
delete from projection where name = $1

-- name: list_steps
-- A page of steps across runs, newest first.
select ns, run_id, step, node, kind, status, attempt, started_at, finished_at, error, as_of, reused,
  cache, stored, saved_ms, saved_usd_micros
from step_view
where ns = $1 and ($2::uuid is null or run_id = $2) and ($3::text is null or node = $3)
  and ($4::text is null or kind = $4) and ($5::text[] is null or status = any($5))
  and ($6::bigint = 0 or started_at > $6) and ($7::bigint = 0 or started_at between 1 and $7 - 1)
  and ($8::bigint is null or (started_at, run_id, step) < ($8, $9::uuid, $10::text))
order by started_at desc, run_id desc, step desc
limit $11

-- ========================================================================================== checkpoints

-- name: checkpoints_put
-- Save checkpoints, values and writes; saved again, the newer counts, but of writes only the special ones' newer.
with v as (
  insert into checkpoint_value (ns, thread, space, channel, version, body)
  select $1, x.* from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[]) as x
  on conflict (ns, thread, space, channel, version) do update set body = excluded.body
), w as (
  insert into checkpoint_write (ns, thread, space, id, task, n, path, channel, body)
  select $1, x.* from unnest($7::text[], $8::text[], $9::text[], $10::text[], $11::int[], $12::text[], $13::text[],
    $14::bytea[]) as x
  on conflict (ns, thread, space, id, task, n) do update set
    path = excluded.path, channel = excluded.channel, body = excluded.body
  where excluded.n < 0
)
insert into checkpoint (ns, thread, space, id, parent, run, refs, body, meta)
select $1, x.thread, x.space, x.id, x.parent, x.run, x.refs::jsonb, x.body, x.meta
from unnest($15::text[], $16::text[], $17::text[], $18::text[], $19::text[], $20::text[], $21::bytea[], $22::bytea[])
  as x(thread, space, id, parent, run, refs, body, meta)
on conflict (ns, thread, space, id) do update set
  parent = excluded.parent, run = excluded.run, refs = excluded.refs, body = excluded.body, meta = excluded.meta

-- part: checkpoint_page
id between $4 and $5 and ($6::text is null or id < $6)
  and ($7::text is null or (id, thread, space) < ($7, $8::text, $9::text))
order by id desc, thread desc, space desc limit $10

-- part: checkpoint_whole
-- One statement sees one moment: the page, its values once each, and its writes.
select 0 as part, thread, space, id, parent as a, run as b, refs::text as c, 0 as n, body, meta from page
union all
select 1, v.thread, v.space, '', v.channel, v.version, '', 0, v.body, ''::bytea
from checkpoint_value v
where v.ns = $1 and (v.thread, v.space, v.channel, v.version) in (
  select p.thread, p.space, r ->> 0, r ->> 1 from page p, jsonb_array_elements(p.refs) as r)
union all
select 2, w.thread, w.space, w.id, w.task, w.path, w.channel, w.n, w.body, ''::bytea
from page p join checkpoint_write w on w.ns = $1 and w.thread = p.thread and w.space = p.space and w.id = p.id

-- name: checkpoint_of_thread
-- A page of the checkpoints of a thread in a space, along the key.
with page as materialized (
  select * from checkpoint where ns = $1 and thread = $2 and space = $3 and {checkpoint_page}
)
{checkpoint_whole}

-- name: checkpoint_list
-- A page of checkpoints.
with page as materialized (
  select * from checkpoint
  where ns = $1 and ($2::text is null or thread = $2) and ($3::text is null or space = $3) and {checkpoint_page}
)
{checkpoint_whole}

-- name: checkpoints_drop
-- Forget checkpoints of threads, of runs, or by name; their writes; and values no checkpoint is left to refer to.
with doomed as (
  select c.thread, c.space, c.id from checkpoint c where c.ns = $1 and c.thread = any($2::text[])
  union
  select c.thread, c.space, c.id from checkpoint c where c.ns = $1 and c.run <> '' and c.run = any($3::text[])
  union
  select c.thread, c.space, c.id from unnest($4::text[], $5::text[], $6::text[]) as x(thread, space, id)
  join checkpoint c on c.ns = $1 and c.thread = x.thread and c.space = x.space and c.id = x.id
), gone as (
  delete from checkpoint c using doomed d
  where c.ns = $1 and c.thread = d.thread and c.space = d.space and c.id = d.id
  returning c.thread, c.space, c.id
), w as (
  delete from checkpoint_write w where w.ns = $1 and (w.thread = any($2::text[])
    or (w.thread, w.space, w.id) in (select thread, space, id from doomed))
), live as (
  select c.thread, c.space, r ->> 0 as channel, r ->> 1 as version
  from checkpoint c, jsonb_array_elements(c.refs) as r
  where c.ns = $1 and c.thread in (select thread from doomed)
    and (c.thread, c.space, c.id) not in (select thread, space, id from doomed)
), v as (
  delete from checkpoint_value v
  where v.ns = $1 and (v.thread = any($2::text[]) or v.thread in (select thread from doomed))
    and not exists (select 1 from live l where l.thread = v.thread and l.space = v.space
      and l.channel = v.channel and l.version = v.version)
)
select count(*) from gone

-- name: data_keys
-- Wrapped keys in the order they were made.
select id, ns, use, wrapped, master, created_at, destroyed_at from data_key order by no

-- name: data_key_add
-- Keep a key; a second index key of a namespace is left out. Sent again, it is there already.
with added as (
  insert into data_key (id, ns, use, wrapped, master, created_at) values ($1, $2, $3, $4, $5, {clock})
  on conflict do nothing returning id
)
select exists (select from added) or exists (select from data_key where id = $1)

-- name: data_key_rewrap
-- Another wrapping of a key.
with changed as (update data_key set wrapped = $2, master = $3 where id = $1 and destroyed_at = 0 returning id)
select count(*) from changed

-- name: data_key_destroy
-- Forget the keys of a namespace.
with gone as (
  update data_key set wrapped = '', destroyed_at = {clock} where ns = $1 and destroyed_at = 0 returning id
)
select count(*) from gone

-- ================================================================================================= funds

-- name: cap_put
-- Set a cap; settings leave one alone that a person set.
insert into cap (ns, scope, period, most, warn_percent, source) values ($1, $2, $3, $4, $5, $6)
on conflict (ns, scope, period) do update set
  most = excluded.most, warn_percent = excluded.warn_percent, source = excluded.source
where cap.source <> 'api' or excluded.source = 'api'

-- name: cap_drop
-- Remove a cap, of one source only if that is given.
delete from cap where ns = $1 and scope = $2 and period = $3 and ($4 = '' or source = $4) returning true

-- name: caps
-- Caps of a namespace.
select ns, scope, period, most, warn_percent, source from cap where ns = $1 order by scope, period

-- name: all_caps
-- Every cap.
select ns, scope, period, most, warn_percent, source from cap

-- part: balance_columns
ns, scope, win, spent, held, unknown, overrun, warned

-- name: balances
-- What counts in the places of a namespace.
select {balance_columns} from balance where ns = $1 order by scope, win

-- name: balances_at
-- What counts in some places just now.
select {balance_columns} from balance
where (ns, scope, win) in (select * from unnest($1::text[], $2::text[], $3::text[]))

-- name: balances_make
-- Let places have a row each, in order, so that nobody waits for a lock in a circle.
insert into balance (ns, scope, win) select * from unnest($1::text[], $2::text[], $3::text[]) order by 1, 2, 3
on conflict do nothing

-- name: balances_lock
-- What counts in some places, kept from everybody else until the end of the transaction.
select {balance_columns} from balance
where (ns, scope, win) in (select * from unnest($1::text[], $2::text[], $3::text[]))
order by ns, scope, win for update

-- name: balances_put
-- Write what counts in some places.
update balance b set spent = x.spent, held = x.held, unknown = x.unknown, overrun = x.overrun, warned = x.warned
from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::boolean[])
     as x(ns, scope, win, spent, held, unknown, overrun, warned)
where b.ns = x.ns and b.scope = x.scope and b.win = x.win

-- part: hold_columns
ns, run_id, n, step, call, usd, slot, places, lost, since

-- name: holds_of
-- Some holds, kept from everybody else until the end of the transaction: one settled meanwhile is not settled twice.
select {hold_columns} from hold where (run_id, n) in (select * from unnest($1::uuid[], $2::int[]))
order by run_id, n for update

-- name: hold_lock
-- One hold, kept from everybody else until the end of the transaction.
select {hold_columns} from hold where run_id = $1 and n = $2 for update

-- name: holds
-- Holds of a namespace, oldest first.
select {hold_columns} from hold
where ns = $1 and ($2::uuid is null or run_id = $2) and ($3::boolean is null or lost = $3)
order by since, run_id, n limit $4

-- name: holds_put
-- Keep holds.
insert into hold ({hold_columns})
select * from unnest($1::text[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[],
                     $9::boolean[], $10::bigint[])
on conflict (run_id, n) do update set lost = excluded.lost

-- name: holds_drop
-- Forget holds that were settled.
delete from hold where (run_id, n) in (select * from unnest($1::uuid[], $2::int[]))

-- part: want_columns
ns, run_id, step, call, usd, project, slot, since, told_at

-- name: wants
-- Calls of a namespace that wait for room, longest first.
select {want_columns} from want where ns = $1 order by since, run_id limit $2

-- name: all_wants
-- Calls that wait for room, longest first; those somebody else looks at just now are left out.
select {want_columns} from want order by since limit $1 for update skip locked

-- name: wants_put
-- Let calls wait for room.
insert into want ({want_columns})
select * from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::bigint[],
                     $9::bigint[])
on conflict (run_id, step, call) do update set
  usd = excluded.usd, project = excluded.project, slot = excluded.slot, since = excluded.since, told_at = excluded.told_at

-- name: wants_gone
-- Calls wait no longer.
delete from want where (run_id, step, call) in (select * from unnest($1::uuid[], $2::text[], $3::text[]))

-- name: wants_drop
-- No call of a run waits any longer.
delete from want where run_id = $1

-- =============================================================================================== usage

-- part: usage_columns
ns, run_id, step, call, seq, n, as_of, at, agent, workflow, project, kind, state, provider, model, purpose, tool, tokens,
input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_usd_micros

-- part: usage_where
ns = $1 and at >= $2 and ($3::bigint = 0 or at < $3) and ($4::uuid is null or run_id = $4)
  and ($5::text is null or workflow = $5) and ($6::text is null or project = $6)
  and ($7::text is null or provider = $7) and ($8::text is null or model = $8) and ($9::text is null or agent = $9)
  and ($10::text is null or purpose = $10) and ($11::text is null or tool = $11) and ($12::text is null or kind = $12)
  and ($13::text is null or state = $13)

-- name: put_usage
-- Upsert calls as they were paid for; a row made from an older record never replaces one made from a newer.
insert into usage (projection, {usage_columns})
select $1, x.*
from unnest(
  $2::text[], $3::uuid[], $4::text[], $5::text[], $6::int[], $7::int[], $8::int[], $9::bigint[], $10::text[],
  $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[],
  $19::bigint[], $20::bigint[], $21::bigint[], $22::bigint[], $23::bigint[], $24::bigint[], $25::bigint[])
  as x({usage_columns})
on conflict (run_id, seq, n) do update set
  projection = excluded.projection,
  ns = excluded.ns, as_of = excluded.as_of, at = excluded.at, step = excluded.step, call = excluded.call,
  agent = excluded.agent, workflow = excluded.workflow, project = excluded.project, kind = excluded.kind,
  state = excluded.state, provider = excluded.provider, model = excluded.model, purpose = excluded.purpose,
  tool = excluded.tool, tokens = excluded.tokens, input_tokens = excluded.input_tokens,
  cached_tokens = excluded.cached_tokens, cache_write_tokens = excluded.cache_write_tokens,
  output_tokens = excluded.output_tokens, reasoning_tokens = excluded.reasoning_tokens,
  cost_usd_micros = excluded.cost_usd_micros
where excluded.as_of >= usage.as_of

-- name: prune_usage
-- Forget calls of long ago.
with gone as (
  delete from usage where ctid = any(array(select ctid from usage where at < $1 limit $2)) returning 1
)
select count(*) from gone

-- name: list_usage
-- A page of calls, newest first.
select {usage_columns}
from usage
where {usage_where}
  and ($14::bigint is null or (at, run_id, seq, n) < ($14, $15::uuid, $16::int, $17::int))
order by at desc, run_id desc, seq desc, n desc
limit $18

-- name: sum_usage
-- Sums over the calls of each group.
select * from (
  select case $14::text when 'day' then to_char(to_timestamp(at / 1000) at time zone 'UTC', 'YYYY-MM-DD')
           when 'model' then model when 'provider' then provider when 'workflow' then workflow
           when 'project' then project when 'agent' then agent when 'purpose' then purpose when 'tool' then tool
           when 'kind' then kind when 'run' then run_id::text else '' end as key,
         count(distinct run_id) as runs, count(*) as calls,
         count(*) filter (where state = 'failed') as failed, count(*) filter (where state = 'unknown') as unknown,
         coalesce(sum(tokens) filter (where state <> 'unknown'), 0)::bigint as tokens,
         coalesce(sum(input_tokens), 0)::bigint as input_tokens, coalesce(sum(cached_tokens), 0)::bigint as cached_tokens,
         coalesce(sum(cache_write_tokens), 0)::bigint as cache_write_tokens,
         coalesce(sum(output_tokens), 0)::bigint as output_tokens,
         coalesce(sum(reasoning_tokens), 0)::bigint as reasoning_tokens,
         coalesce(sum(cost_usd_micros) filter (where state <> 'unknown'), 0)::bigint as cost_usd_micros,
         coalesce(sum(tokens) filter (where state = 'unknown'), 0)::bigint as unknown_tokens,
         coalesce(sum(cost_usd_micros) filter (where state = 'unknown'), 0)::bigint as unknown_cost_usd_micros
  from usage
  where {usage_where}
  group by 1
) s
order by case $14::text when 'day' then key end collate "C" desc, cost_usd_micros desc, tokens desc, key collate "C"
limit $15

-- ================================================================================================= services

-- name: report_put
-- Replace what a process reported, and forget reports that ended.
with gone as (
  delete from report where until <= {clock} and process <> $1
)
insert into report (process, role, services, answered, until) values ($1, $2, $3, $4, {clock} + $5::bigint)
on conflict (process) do update set role = excluded.role, services = excluded.services, answered = excluded.answered,
  until = excluded.until

-- name: report_drop
-- Forget what a process reported.
delete from report where process = $1

-- name: reports
-- What processes reported that are not known to be gone.
select process, role, services, answered, until from report where until > {clock} order by process collate "C"

-- name: look_ask
-- Ask every process to look again; numbers are times where the clock goes on.
update look set asked = greatest(asked + 1, {clock}) returning asked

-- name: look_asked
-- The newest wish to look again.
select asked from look

-- ================================================================================================= findings

-- name: finding_delete
-- Remember that a finding was deleted; the first time counts. The run's row is held, so that it is not deleted meanwhile.
with held as (select id from run where id = $2 and ns = $1 for key share),
put as (
  insert into deleted_finding (run_id, id, ns, by, reason, at)
  select id, $3::text, $1::text, $4::text, $5::text, {clock} from held
  on conflict do nothing
)
select exists (select from held)

-- name: findings_deleted
-- What was deleted of a run and of the runs it is a replay of.
with recursive line as (
  select id, replay_of from run where id = $2 and ns = $1
  union
  select r.id, r.replay_of from line join run r on r.id = line.replay_of::uuid and r.ns = $1
)
select run_id, id, by, reason, at from deleted_finding
where run_id = any(array(select id from line)) order by run_id, id

-- =================================================================================================== starts

-- name: starts_lock
-- Let one after another count the starts of a caller in a tier; the lock ends with the transaction.
select pg_advisory_xact_lock(hashtextextended($1, 7221))

-- name: starts_forget
-- Forget starts that no window holds any more; those that another transaction is forgetting are left to it.
delete from start_taken where (ns, caller, tier, id) in (
  select ns, caller, tier, id from start_taken where at <= $1 limit 1000 for update skip locked
)

-- name: starts
-- The starts of a caller in a tier, without those no longer counted.
select id, at from start_taken where ns = $1 and caller = $2 and tier = $3 and at > $4

-- name: start_put
-- Count a start; an id that counted once, long ago, counts anew.
insert into start_taken (ns, caller, tier, id, at) values ($1, $2, $3, $4, $5)
on conflict (ns, caller, tier, id) do update set at = excluded.at

-- name: start_drop
-- Count a start no longer.
delete from start_taken where ns = $1 and caller = $2 and tier = $3 and id = $4

-- ================================================================================================ proposals

-- part: proposal_columns
ns, id, workflow, tag, base, digest, author, optimizer, rule, state, body, answer, at, decided_at

-- name: proposal_known
-- The newest proposal of the same change of the same version in some states.
select {proposal_columns} from proposal
where ns = $1 and workflow = $2 and tag = $3 and base = $4 and digest = $5 and state = any($6::text[])
order by at desc, id desc limit 1

-- name: proposal_put
-- Keep a proposal, unless too many wait or somebody was faster with the same one.
with waiting as (select count(*) as n from proposal where ns = $1 and workflow = $3 and state = 'proposed'),
put as (
  insert into proposal (ns, id, workflow, tag, base, digest, author, optimizer, rule, body, at, state, answer, decided_at)
  select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10::bytea, {clock}, 'proposed', ''::bytea, 0
  from waiting where n < $11::bigint
  on conflict do nothing
  returning id
)
select (select id from put) as id, n >= $11::bigint as full from waiting

-- name: proposal_get
-- One proposal.
select {proposal_columns} from proposal where ns = $1 and id = $2

-- name: proposal_list
-- A page of proposals, newest first.
select {proposal_columns} from proposal
where ns = $1 and ($2::text is null or workflow = $2) and ($3::text is null or tag = $3)
  and ($4::text is null or author = $4) and ($5::text[] is null or state = any($5))
  and ($6::bigint is null or (at, id) < ($6, $7::text))
order by at desc, id desc limit $8

-- name: proposal_settle
-- Say what became of a proposal that waits.
with w as (
  update proposal set state = $1, answer = $2, decided_at = {clock} where ns = $3 and id = $4 and state = 'proposed'
  returning 1)
select count(*) from w

-- name: proposal_apply
-- Move a tag as `move_tag` does and settle a proposal, both or neither; its row is held, so that nobody else decides it.
with waits as (
  select ns from proposal where ns = $1 and id = $14 and state = 'proposed' for update
),
moved as (
  update tag set digest = $4
  where ns = $1 and name = $2 and tag = $3 and digest = $5 and exists (select from waits)
  returning ns
),
version as (
  insert into workflow (ns, name, digest, body, created_at)
  select $1, $2, $4, $12::bytea, case when $13::bigint > 0 then $13 else {now} end from moved
  on conflict do nothing
),
noted as (
  insert into tag_move (ns, name, tag, n, digest, former, kind, by, author, reason, ops, evidence, at)
  select $1, $2, $3, 1 + coalesce((select max(n) from tag_move where ns = $1 and name = $2 and tag = $3), 0),
         $4, $5, $6, $7, $8, $9, $10, $11, {now}
  from moved
),
settled as (
  update proposal set state = $15, answer = $16, decided_at = {now} from moved where proposal.ns = $1 and proposal.id = $14
)
select count(*) > 0 from moved

-- =============================================================================================== optimizers

-- part: optimizer_columns
ns, name, digest, size, enabled, failures, error, by, added_at, quarantined_at

-- name: optimizer_put
-- Keep a plug-in; the same module again changes nothing, another one begins anew.
insert into optimizer (ns, name, digest, size, by, module, added_at, enabled, failures, error, quarantined_at)
values ($1, $2, $3, $4, $5, $6, {clock}, true, 0, '', 0)
on conflict (ns, name) do update set
  digest = excluded.digest, size = excluded.size, by = excluded.by, module = excluded.module,
  added_at = excluded.added_at, enabled = true, failures = 0, error = '', quarantined_at = 0
where optimizer.digest <> excluded.digest

-- name: optimizer_get
-- One plug-in without its module.
select {optimizer_columns} from optimizer where ns = $1 and name = $2

-- name: optimizer_list
-- The plug-ins of a namespace without their modules.
select {optimizer_columns} from optimizer where ns = $1 order by name

-- name: optimizer_module
-- The bytes of a plug-in.
select module from optimizer where ns = $1 and name = $2

-- name: optimizer_drop
-- Forget a plug-in.
with w as (delete from optimizer where ns = $1 and name = $2 returning 1) select count(*) from w

-- name: optimizer_enable
-- Let a plug-in be asked, or not.
with w as (
  update optimizer set enabled = $1, failures = 0, error = '', quarantined_at = 0 where ns = $2 and name = $3 returning 1)
select count(*) from w

-- name: optimizer_note
-- Note what came of asking a plug-in.
update optimizer set
  failures = case when $1::text = '' then 0 else failures + 1 end, error = $1,
  quarantined_at = case when $1 <> '' and failures + 1 >= $2::int and quarantined_at = 0 then {clock} else quarantined_at end
where ns = $3 and name = $4 and digest = $5
returning {optimizer_columns}

-- A run that completed has no step that is under way, unless the table of steps is behind.
-- part: observed
with seen as (
  select id, status, finished_at - started_at as ms from run
  where substr(digest, 1, 4) = substr($3::bytea, 1, 4) and ns = $1 and digest = $3 and workflow = $2 and state = 'done' and status in ('completed', 'failed')
    and replay_of is null
    and (status = 'failed' or exists (select 1 from step_view s where s.run_id = run.id))
    and (status = 'failed' or not exists (
      select 1 from step_view s where s.run_id = run.id and s.status in ('ready', 'running', 'waiting', 'retrying')))
  order by created_at desc, id desc limit $4
)

-- name: observed_runs
-- What the newest ended runs of a version took.
{observed}
select count(*) filter (where status = 'completed') as runs, count(*) filter (where status = 'failed') as failed,
  max(ms) filter (where status = 'completed' and place = (n + 1) / 2)::float8 as p50,
  max(ms) filter (where status = 'completed' and place = (n * 95 + 99) / 100)::float8 as p95
from (select status, ms, row_number() over (partition by status order by ms) as place,
             count(*) over (partition by status) as n from seen) s

-- name: observed_steps
-- What became of the steps of those runs, by node.
{observed}
select node, count(*) filter (where status = 'completed') as completed,
  count(*) filter (where status in ('failed', 'dead_letter')) as failed,
  count(*) filter (where status = 'skipped') as skipped, sum(greatest(attempt - 1, 0)) as retried,
  count(*) filter (where reused) as reused,
  count(*) filter (where status in ('completed', 'failed', 'dead_letter') and not reused) as executed,
  max(ms) filter (where timed and place = (n + 1) / 2)::float8 as p50,
  max(ms) filter (where timed and place = (n * 95 + 99) / 100)::float8 as p95
from (select *, row_number() over (partition by node, timed order by ms) as place, count(*) over (partition by node, timed) as n
      from (select node, s.status, attempt, reused, finished_at - started_at as ms,
                   s.status = 'completed' and attempt <= 1 and started_at > 0 and not reused as timed
            from seen join step_view s on s.run_id = seen.id) t) u
group by node order by node collate "C"

-- name: observed_costs
-- What the calls of those runs cost, by node.
{observed}
select agent, sum(cost_usd_micros)::bigint as cost from usage join seen on seen.id = usage.run_id
where state <> 'unknown' group by agent

-- name: ended_since
-- How many ended runs of a version were created after a moment.
select count(*) as n, coalesce(max(created_at), $4::bigint) as newest from (
  select created_at from run
  where substr(digest, 1, 4) = substr($3::bytea, 1, 4) and ns = $1 and digest = $3 and workflow = $2 and created_at > $4 and state = 'done'
    and status in ('completed', 'failed') and replay_of is null
  order by created_at desc limit $5) s

-- name: look_list
-- How far the runs of workflows have been looked at.
select ns, workflow, version, mark from optimizer_look where ns = $1 order by workflow

-- name: look_put
-- Say how far the runs of a workflow have been looked at.
insert into optimizer_look (ns, workflow, version, mark) values ($1, $2, $3, $4)
on conflict (ns, workflow) do update set version = excluded.version, mark = excluded.mark

-- ==================================================================================================== cache

-- name: cache_lock_shared
-- Let nothing of a namespace be invalidated while a result is put; the lock ends with the transaction.
select pg_advisory_xact_lock_shared(hashtextextended($1, 7222))

-- name: cache_lock
-- Let no result of a namespace be put while something of it is invalidated.
select pg_advisory_xact_lock(hashtextextended($1, 7222))

-- name: cache_get
-- Results under some keys that have not expired.
select key, workflow, node, body, size, took_ms, cost_usd_micros, created_at from cache_entry
where ns = $1 and key = any($2::text[]) and (expires_at = 0 or expires_at > {now})

-- name: cache_stamp
-- How often something of a namespace was invalidated.
select n from cache_stamp where ns = $1

-- name: cache_stamp_next
-- Let nothing be kept any more that was computed before now.
insert into cache_stamp as s (ns, n) values ($1, 1) on conflict (ns) do update set n = s.n + 1

-- name: cache_put
-- Keep a result.
insert into cache_entry (ns, key, workflow, node, body, size, took_ms, cost_usd_micros, created_at, expires_at, names)
select $1, $2, $3, $4, $5, $6, $7, $8, t, case when $9::bigint = 0 then 0 else t + $9::bigint end, $10
from (select {clock} as t) as c
on conflict (ns, key) do update set
  workflow = excluded.workflow, node = excluded.node, body = excluded.body, size = excluded.size,
  took_ms = excluded.took_ms, cost_usd_micros = excluded.cost_usd_micros, created_at = excluded.created_at,
  expires_at = excluded.expires_at, names = excluded.names

-- name: cache_expire
-- Forget results whose time is over; those that another transaction forgets are left to it.
delete from cache_entry where (ns, key) in (
  select ns, key from cache_entry where expires_at between 1 and {now} limit 1000 for update skip locked
)

-- name: cache_total
-- How much a namespace keeps.
select count(*) as entries, coalesce(sum(size), 0)::bigint as bytes from cache_entry where ns = $1

-- name: cache_evict
-- Forget the results put first, until a namespace keeps no more than it may.
delete from cache_entry where (ns, key) in (
  select ns, key from cache_entry where ns = $1 and key in (
    select key from (
      select key, row_number() over age as n, sum(size) over age as total from cache_entry where ns = $1
      window age as (order by created_at desc, key desc rows unbounded preceding)
    ) as aged where n > $2 or total > $3
  ) for update skip locked
)

-- name: cache_drop
-- Forget results by what was computed.
delete from cache_entry
where ns = $1 and ($2 = '' or key = $2) and ($3 = '' or workflow = $3) and ($4 = '' or node = $4)
returning key

-- name: cache_sizes
-- What is kept, by node.
select workflow, node, count(*) as entries, sum(size)::bigint as bytes from cache_entry
where ns = $1 and (expires_at = 0 or expires_at > {now}) group by workflow, node order by workflow, node

-- name: cache_counts
-- What the cache had to do with steps that ended, by workflow and node.
select r.workflow, s.node, s.cache as how, count(*) as steps, count(*) filter (where s.stored) as stored,
       sum(s.saved_ms)::bigint as saved_ms, sum(s.saved_usd_micros)::bigint as saved_usd_micros
from step_view s join run r on r.id = s.run_id
where s.ns = $1 and s.cache <> '' group by r.workflow, s.node, s.cache order by r.workflow, s.node, s.cache

-- name: flight_take
-- Take what nobody with a living lease computes.
insert into cache_flight as f (ns, key, worker)
select x.ns, x.key, $3 from unnest($1::text[], $2::text[]) as x(ns, key)
where exists (select from worker w where w.id = $3 and w.lease_until > {clock})
order by x.ns, x.key
on conflict (ns, key) do update set worker = excluded.worker
where f.worker = excluded.worker
  or not exists (select from worker w where w.id = f.worker and w.lease_until > {clock})
returning ns, key

-- name: flights
-- What somebody with a living lease computes of some keys.
select f.ns, f.key from cache_flight f join unnest($1::text[], $2::text[]) as x(ns, key) on x.ns = f.ns and x.key = f.key
where exists (select from worker w where w.id = f.worker and w.lease_until > {clock})

-- name: flight_end
-- Compute some of what we computed no more; whoever asks for one of them just now holds its row, and is waited for.
delete from cache_flight where (ns, key) in (
  select f.ns, f.key from cache_flight f join unnest($1::text[], $2::text[]) as x(ns, key) on x.ns = f.ns and x.key = f.key
  where f.worker = $3 order by f.ns, f.key for update of f
)

-- name: flights_of_dead
-- Forget what nobody alive computes, but for what others are about to take.
delete from cache_flight where (ns, key) in (
  select f.ns, f.key from cache_flight f
  where not exists (select from worker w where w.id = f.worker and w.lease_until > {clock}) for update of f skip locked
)
