-- All SQL of the store. `-- name:` starts a statement and the comment under it says what it is for.
-- `{part}` is replaced by the part of that name. `{rows N}` stands for one or many rows of N parameters: a single step
-- of the database then stores many rows, which costs far less than a step for each.

-- ============================================================================================== sessions

-- name: begin
-- Take the one write lock at once, so that nothing read in the transaction can be outdated.
begin immediate

-- name: data_version
-- A number that changes when another connection has committed.
pragma data_version

-- name: checkpoint
-- Move the log into the file and cut it, in a quiet moment.
pragma wal_checkpoint(truncate)

-- name: writer_add
-- A number of our own under which groups are listed.
insert into writer (created_at) values (?)

-- name: writer_tx
-- Prove a transaction that lists no group.
update writer set tx = ?2 where id = ?1

-- name: writer_proof
-- Whether a transaction that lists no group was stored.
select 1 from writer where id = ? and tx >= ?

-- name: batch_add
-- List a group for those who follow all journals.
insert into batch (writer, n, runs) values (?, ?, ?)

-- name: batch_proof
-- Whether a group was stored.
select 1 from batch where writer = ? and n = ?

-- ================================================================================================ schema

-- name: migration_table
-- Whether the list of applied schema steps exists.
select 1 from sqlite_master where type = 'table' and name = 'migration'

-- name: migration_create
-- The list of applied schema steps.
create table if not exists migration (name text primary key, applied_at text not null default current_timestamp)

-- name: migration_list
-- Which schema steps are applied.
select name from migration

-- name: migration_add
-- Note a schema step as applied.
insert into migration (name) values (?)

-- =============================================================================================== commits

-- name: rec_add
-- The fence: a position that is taken is left out. A body that breaks a rule is an error, not left out.
insert into rec (run_id, seq, epoch, chain, body) values {rows 5} on conflict do nothing

-- name: valid
-- How many of some commits are for a run that exists and whose owner was not replaced.
select count(*) from (values {rows 2}) as v cross join run r on r.id = v.column1 and r.epoch <= v.column2

-- name: moved
-- How many of some runs got a message after the one that was seen last.
select count(*) from (values {rows 2}) as v cross join run r on r.id = v.column1 and r.inbox_seq > v.column2

-- name: chain
-- What stands at a position, to know our own record again.
select chain from rec where run_id = ? and seq = ?

-- name: owner
-- Who may move a run.
select epoch, state from run where id = ?

-- name: run_add
-- New runs.
insert into run (id, ns, workflow, digest, state, status, priority, wake_at, due_at, worker, epoch, inbox_seq,
                 created_at, started_at, finished_at, goal, labels, parent, replay_of, error, business_key)
values {rows 21}

-- name: run_change
-- Park, release or end runs whose owner has seen every message.
update run set state = v.column4, status = v.column5, wake_at = v.column6, due_at = v.column7, error = v.column8,
               started_at = case when v.column9 = 0 then run.started_at else v.column9 end,
               finished_at = v.column10, worker = null
from (values {rows 10}) as v
where run.id = v.column1 and run.epoch = v.column2 and run.inbox_seq = v.column3

-- name: run_graph
-- Name the graph a run goes by since it was patched.
update run set digest = ? where id = ?

-- name: run_seen
-- Whether a change of ownership was applied.
select 1 from run where id = ? and epoch = ? and inbox_seq = ?

-- name: inbox_eat
-- Remove consumed messages.
delete from inbox where (run_id, n) in (values {rows 2})

-- name: blob_add
-- Store values under their digests; whatever stores one uses it.
insert into blob (digest, body) values (?, ?) on conflict (digest) do update set orphan_at = 0 where orphan_at <> 0

-- name: snapshot_put
-- Keep the newest state of a run.
insert into snapshot (run_id, seq, body) values (?, ?, ?)
on conflict (run_id) do update set seq = excluded.seq, body = excluded.body where excluded.seq >= snapshot.seq

-- name: ticket_put
-- Ask, or be done with a question; an answer the run has not heard of yet keeps it from being asked again.
insert into ticket (ns, id, run_id, step, kind, state, message, body, answer, created_at, expires_at, decided_at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (ns, id) do update set
  state = excluded.state,
  message = case when excluded.state = 'open' then excluded.message else message end,
  body = case when excluded.state = 'open' then excluded.body else body end,
  created_at = case when excluded.state = 'open' then excluded.created_at else created_at end,
  expires_at = case when excluded.state = 'open' then excluded.expires_at else expires_at end,
  answer = case when excluded.state = 'open' or state = 'open' or answer = x'' then excluded.answer else answer end,
  votes = case when excluded.state = 'open' then 0 else votes end,
  told = case when excluded.state = 'open' and excluded.created_at <> created_at then '' else told end,
  decided_at = case when excluded.state = 'open' or decided_at = 0 then excluded.decided_at else decided_at end,
  unheard = 0
where excluded.state <> 'open' or not unheard

-- name: outbox_add
-- Leave a message for another run.
insert into outbox (ns, target, key, kind, body) values (?, ?, ?, ?, ?)

-- name: task_add
-- Offer an attempt to any worker.
insert into task (id, ns, run_id, step, attempt, handler, body, created_at) values (?, ?, ?, ?, ?, ?, ?, ?)
on conflict do nothing

-- name: task_withdraw
-- Take an offer back.
delete from task where id = ?

-- name: key_find
-- The run made under an idempotency key, and the digest of the body it was asked with.
select run_id, digest, answer from idempotency where ns = ? and key = ?

-- name: key_add
-- Remember which run an idempotency key made or spoke to, and what it was answered.
insert into idempotency (ns, key, digest, run_id, created_at, answer) values (?, ?, ?, ?, ?, ?)

-- name: business_run
-- The unfinished run with a business key.
select id from run where ns = ? and business_key = ? and state <> 'done'

-- =============================================================================================== reading

-- name: snapshot_get
-- The newest state of a run.
select seq, body from snapshot where run_id = ?

-- name: records
-- A page of one journal. A value of another type was not written by us; as bytes, it is found out by its chain.
select seq, cast(epoch as integer), cast(coalesce(body, '') as blob), cast(coalesce(chain, '') as blob)
from rec where run_id = ? and seq > ? order by seq limit ?

-- name: blobs
-- Stored values by digest.
select digest, body from blob where digest in (select value from json_each(?))

-- part: run_columns
id, ns, workflow, digest, state, status, priority, wake_at, worker, epoch, inbox_seq, goal, labels, parent, replay_of,
error, business_key, created_at, started_at, finished_at

-- name: run_get
-- One run's row.
select {run_columns} from run where id = ?

-- name: run_list
-- A page of runs, newest first.
select {run_columns} from run
where ns = ?1
  and (?2 is null or status in (select value from json_each(?2)))
  and (?3 is null or workflow = ?3)
  and (?4 is null or digest = ?4)
  and (?5 is null or not exists (
        select 1 from json_each(?5) w
        where not exists (select 1 from json_each(run.labels) h where h.key = w.key and h.value = w.value)))
  and (?6 is null or replay_of = ?6)
  and (?7 is null or parent = ?7)
  and (?8 = '' or instr(fold(goal), fold(?8)) > 0 or instr(id_text(id), fold(?8)) > 0)
  and (?9 = 0 or created_at > ?9)
  and (?10 = 0 or created_at < ?10)
  and created_at <= coalesce(?11, 9223372036854775807)
  and (?11 is null or (created_at, id) < (?11, ?12))
order by created_at desc, id desc
limit ?13

-- name: run_count
-- How many runs have each status.
select status, count(*) from run where ns = ? group by status

-- name: run_ended
-- Runs that may be deleted; one that another run replays stays, for that one reads its outcomes.
select id from run
where ns = ?1 and state = 'done' and (?2 is null or id = ?2)
  and (?3 = 0 or (finished_at < ?3 and created_at < ?3))
  and not exists (select 1 from run f where f.replay_of = id_text(run.id))
order by created_at, id limit ?4

-- name: rec_delete
-- Delete a run's journal.
delete from rec where run_id = ?

-- name: inbox_delete
-- Delete a run's messages.
delete from inbox where run_id = ?

-- name: snapshot_delete
-- Delete a run's state.
delete from snapshot where run_id = ?

-- name: ticket_delete
-- Delete a run's tickets.
delete from ticket where run_id = ?

-- name: notification_delete
-- Delete a run's messages to people.
delete from notification where run_id = ?

-- name: task_delete
-- Delete a run's attempts.
delete from task where run_id = ?

-- name: key_delete
-- Forget the idempotency key that made a run.
delete from idempotency where run_id = ?

-- name: view_delete
-- Delete a run's steps in the view.
delete from step_view where run_id = ?

-- name: run_delete
-- Delete a run's row.
delete from run where id = ?

-- name: stats
-- Counts for a person who looks after the database.
select sqlite_version() as version,
       (select count(*) from run) as runs,
       (select coalesce(max(rowid), 0) from rec) as records_estimated,
       (select count(*) from inbox) as inbox,
       (select count(*) from outbox) as outbox,
       (select count(*) from task) as tasks,
       (select count(*) from ticket where state = 'open') as open_tickets,
       (select count(*) from notification where state = 'failed') as failed_notifications,
       (select count(*) from worker) as workers,
       (select count(*) from writer) as writers

-- =========================================================================================== definitions

-- name: workflow_add
-- Store a version if it is new.
insert into workflow (ns, name, digest, body, created_at) values (?, ?, ?, ?, ?) on conflict do nothing

-- name: definition
-- A version's canonical JSON.
select body from workflow where ns = ? and digest = ? limit 1

-- name: workflow_list
-- Versions with their tags, newest first.
select w.ns, w.name, w.digest, w.body, w.created_at, w.retired,
       (select json_group_array(tag) from (select tag from tag t
          where t.ns = w.ns and t.name = w.name and t.digest = w.digest order by tag)) as tags
from workflow w
where w.ns = ?1 and (?2 is null or w.name = ?2)
order by w.created_at desc, w.no desc

-- name: tag_resolve
-- The digest a tag points at; a digest of the workflow resolves to itself.
select digest from (
  select digest, 0 as rank from tag where ns = ?1 and name = ?2 and tag = ?3
  union all
  select digest, 1 from workflow where ns = ?1 and name = ?2 and digest = ?3)
order by rank limit 1

-- name: tag_set
-- Move a tag.
insert into tag (ns, name, tag, digest) values (?, ?, ?, ?)
on conflict (ns, name, tag) do update set digest = excluded.digest

-- name: tag_at
-- Where a tag points.
select digest from tag where ns = ? and name = ? and tag = ?

-- name: tag_moved
-- Remember a move of a tag.
insert into tag_move (ns, name, tag, digest, former, kind, by, author, reason, ops, evidence, at, n)
select ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12,
       1 + (select coalesce(max(n), 0) from tag_move where ns = ?1 and name = ?2 and tag = ?3)

-- name: tag_moves
-- Where a workflow's tags have been, or one.
select tag, n, digest, former, kind, by, author, reason, ops, evidence, at from tag_move
where ns = ?1 and name = ?2 and (?3 is null or tag = ?3) order by tag, n

-- name: workflow_retire
-- Mark versions as not startable.
update workflow set retired = 1 where ns = ?1 and name = ?2 and (?3 is null or digest = ?3) and not retired

-- ============================================================================================= ownership

-- name: worker_put
-- Announce a worker with a lease.
insert into worker (id, host, pid, lease_until, started_at, manifest) values (?, ?, ?, ?, ?, ?)
on conflict (id) do update set host = excluded.host, pid = excluded.pid, lease_until = excluded.lease_until,
  started_at = excluded.started_at, manifest = excluded.manifest

-- name: heartbeat
-- Extend a lease that has not ended.
update worker set lease_until = ?3 where id = ?1 and lease_until > ?2

-- name: worker_remove
-- Remove a worker; its runs have no living owner from now on.
delete from worker where id = ?

-- name: worker_list
-- All workers with their leases.
select id, host, pid, lease_until, started_at, manifest from worker order by started_at, id

-- name: worker_end
-- End a lease because the process is dead.
update worker set lease_until = 0 where id = ?

-- name: owned_count
-- How many runs a worker owns.
select count(*) from run where state = 'owned' and worker = ?

-- part: claimable_of
due_at is not null and due_at <= ?1 and digest not in (select value from json_each(?2)) order by due_at, id limit ?3

-- part: claim_columns
id, ns, epoch, digest, inbox_seq, status, due_at + priority * 60000 as turn

-- name: claimable
-- Ready or due runs: first by priority, softened by a minute of waiting a step, then the longest waiting.
select * from (select {claim_columns} from run where priority = 0 and {claimable_of})
union all
select * from (select {claim_columns} from run where priority = 1 and {claimable_of})
union all
select * from (select {claim_columns} from run where priority = 2 and {claimable_of})
order by turn, id limit ?3

-- name: alive
-- Whether a worker's lease runs; without it, it may take nothing.
select 1 from worker where id = ? and lease_until > ?

-- name: claim
-- Own runs.
update run set state = 'owned', status = 'running', worker = v.column2, epoch = v.column3, due_at = null, wake_at = 0
from (values {rows 3}) as v
where run.id = v.column1

-- name: owned
-- Runs of a worker.
select id, epoch from run where state = 'owned' and worker = ?

-- name: own
-- A run as it is taken, if it is a worker's in an epoch.
select id, ns, epoch, digest, inbox_seq, worker from run where id = ? and state = 'owned' and worker = ? and epoch = ?

-- name: take_over
-- Own a run whose owner is gone.
update run set worker = ?2, epoch = ?3 where id = ?1

-- part: owners
-- Owners of runs, found by hopping over the index of owned runs, not by reading it all.
recursive owner(worker) as (
  select * from (select worker from run where state = 'owned' order by worker limit 1)
  union all
  select (select r.worker from run r where r.state = 'owned' and r.worker > o.worker order by r.worker limit 1)
  from owner o where o.worker is not null
),
dead as (
  select worker from owner o
  where worker is not null and not exists (select 1 from worker w where w.id = o.worker and w.lease_until > ?1)
)

-- name: stealable
-- Runs whose owner's lease has ended.
with {owners}
select r.id, r.ns, r.epoch, r.digest, r.inbox_seq, r.worker
from dead d cross join run r on r.state = 'owned' and r.worker = d.worker
limit ?2

-- name: head
-- The last record of a run.
select seq, chain, body from rec where run_id = ? order by seq desc limit 1

-- name: poll
-- All an idle worker must know, but its messages.
with {owners}
select
  exists (select 1 from run where due_at is not null and priority = 0 and due_at <= ?1)
    or exists (select 1 from run where due_at is not null and priority = 1 and due_at <= ?1)
    or exists (select 1 from run where due_at is not null and priority = 2 and due_at <= ?1),
  exists (select 1 from dead),
  exists (select 1 from outbox where taken_until <= ?1 or taker = ?2),
  exists (select 1 from task t where worker is null
            or not exists (select 1 from worker w where w.id = t.worker and w.lease_until > ?1)),
  exists (select 1 from want)

-- name: poll_inbox
-- Our runs with unread messages.
select id from run r
where state = 'owned' and worker = ? and exists (select 1 from inbox i where i.run_id = r.id)

-- ============================================================================================== messages

-- name: receiver
-- What decides whether a run takes a message.
select ns, state, status, inbox_seq, business_key from run where id = ?

-- name: inbox_key
-- Whether a message is in the inbox already.
select 1 from inbox where run_id = ? and key = ?

-- name: inbox_add
-- Put a message in an inbox.
insert into inbox (run_id, n, key, body) values (?, ?, ?, ?)

-- name: receive
-- Number the message and make the run claimable when it waits.
update run set inbox_seq = ?2,
  due_at = case when state in ('waiting', 'done') then ?3 else due_at end,
  wake_at = case when state in ('waiting', 'done') then 0 else wake_at end,
  state = case when state in ('waiting', 'done') then 'ready' else state end
where id = ?1

-- name: inbox
-- Unread messages in order.
select n, key, body from inbox where run_id = ? and n > ? order by n

-- name: outbox_free
-- Undelivered messages that nobody delivers just now, oldest first.
select id, ns, target, key, kind, body from outbox where taken_until <= ?1 or taker = ?2 order by id limit ?3

-- name: outbox_hold
-- Hold a message for a moment so that others pass it over.
update outbox set taker = ?, taken_until = ? where id = ?

-- name: outbox_delete
-- Forget a delivered message.
delete from outbox where id = ?

-- part: ticket_columns
ns, id, run_id, step, kind, state, message, body, answer, created_at, expires_at, decided_at, votes

-- name: ticket_list
-- A page of tickets, newest first.
select {ticket_columns} from ticket
where ns = ?1 and (?2 is null or kind = ?2) and (?3 is null or state = ?3) and (?4 is null or run_id = ?4)
  and (?5 = '' or (created_at, id) < (select t.created_at, t.id from ticket t where t.ns = ?1 and t.id = ?5))
order by created_at desc, id desc
limit ?6

-- name: ticket_get
-- One ticket.
select {ticket_columns} from ticket where ns = ? and id = ?

-- name: ticket_decide
-- Decide a ticket.
update ticket set state = 'decided', answer = ?3, decided_at = ?4, unheard = 1, votes = votes + 1 where ns = ?1 and id = ?2

-- name: ticket_vote
-- Keep an answer that does not decide a ticket.
update ticket set answer = ?3, votes = votes + 1 where ns = ?1 and id = ?2

-- name: ticket_news
-- Tickets of which something is to be told, with what was planned and what is next.
select id, created_at, told,
       case when state <> 'open' then state when told = '' then 'opened' else 'expiring' end
from ticket
where ns = ?1 and told not in ('decided', 'closed')
  and (state <> 'open' or told = ''
       or (told = 'opened' and expires_at > 0 and expires_at - min(?3, (expires_at - created_at) / 4) <= ?2))
order by created_at, id limit ?4

-- name: ticket_told
-- Note what was planned to be told of a ticket, unless others did or it was asked anew.
update ticket set told = ? where ns = ? and id = ? and created_at = ? and told = ?

-- part: notification_columns
id, ns, ticket, run_id, asked, event, channel, lane, body, state, attempts, due_at, error, created_at, ended_at

-- name: notification_add
-- Keep a message to people.
insert into notification (ns, id, ticket, run_id, asked, event, channel, lane, body, state, attempts, due_at, held_until, error,
                          created_at, ended_at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, 'due', 0, ?, 0, '', ?, 0) on conflict do nothing

-- name: notification_due
-- Messages to be sent now, the first of each lane only.
select {notification_columns} from notification q
where ns = ?1 and state = 'due' and due_at <= ?2 and held_until <= ?2
  and not exists (select 1 from notification p where p.ns = q.ns and p.lane = q.lane and p.state = 'due' and p.n < q.n)
order by n limit ?3

-- name: notification_hold
-- Keep others off a message while it is sent.
update notification set held_until = ?, attempts = attempts + 1 where ns = ? and id = ?

-- name: notification_settle
-- Note what came of a try, unless others try by now.
update notification set state = ?, due_at = ?, error = ?, ended_at = ?, held_until = 0
where ns = ? and id = ? and state = 'due' and attempts = ?

-- name: notification_list
-- A page of messages to people, newest first.
select {notification_columns} from notification
where ns = ?1 and (?2 is null or state = ?2) and (?3 is null or ticket = ?3)
  and (?4 = '' or n < (select p.n from notification p where p.ns = ?1 and p.id = ?4))
order by n desc limit ?5

-- name: notification_get
-- One message to people.
select {notification_columns} from notification where ns = ? and id = ?

-- name: notification_again
-- Make a message due that was sent or given up.
update notification set state = 'due', attempts = 0, due_at = ?, held_until = 0, error = '', ended_at = 0
where ns = ? and id = ? and state <> 'due'

-- name: task_free
-- Attempts that wait, or whose executor's lease has ended, with that executor.
select id, ns, run_id, step, attempt, handler, body, worker, created_at from task t
where handler in (select value from json_each(?2))
  and (worker is null or not exists (select 1 from worker w where w.id = t.worker and w.lease_until > ?1))
order by created_at, id limit ?3

-- name: task_take
-- Execute an attempt.
update task set worker = ? where id = ?

-- name: task_drop
-- Remove an attempt we hold.
delete from task where id = ? and worker = ?

-- ================================================================================================ upkeep

-- name: tail_old
-- Writers whose newest group was noted long enough ago: that group, what every projection is past, and the newest.
select w.id, w.mark,
  coalesce((select min(coalesce(p.n, 0))
            from (select distinct name from projection) k left join projection p on p.name = k.name and p.writer = w.id),
           0),
  (select max(n) from batch b where b.writer = w.id)
from writer w
where w.marked_at <= ? and exists (select 1 from batch b where b.writer = w.id)

-- name: tail_drop
-- Forget a writer's groups up to one, a part at a time.
delete from batch where writer = ?1 and n in (select n from batch where writer = ?1 and n <= ?2 order by n limit ?3)

-- name: tail_mark
-- Note a writer's newest group.
update writer set mark = ?2, marked_at = ?3 where id = ?1

-- name: keys_drop
-- Forget idempotency keys of long ago.
delete from idempotency where (ns, key) in (select ns, key from idempotency where created_at < ? limit ?)

-- name: run_ids
-- Ids of runs in order.
select id from run where id > ? order by id limit ?

-- part: names_blob
instr(body, x'7368613235363a') > 0

-- name: moving_outbox
-- Messages on their way that may name blobs.
select body from outbox where {names_blob}

-- name: moving_task
-- Attempts for any worker that may name blobs.
select body from task where {names_blob}

-- name: moving_inbox
-- Unread messages that may name blobs.
select body from inbox where {names_blob}

-- name: moving_cache
-- Artifacts that kept results speak of.
select cast(names as blob) from cache_entry where names <> ''

-- name: naming
-- Records of some runs that may name blobs.
select body from rec where run_id between ? and ? and {names_blob}

-- name: blobs_naming
-- Values that name others.
select digest, body from blob where digest > ? and {names_blob} order by digest limit ?

-- name: blob_list
-- Digests in order.
select digest from (
  select digest from (select digest from blob where digest > ?1 order by digest limit ?2)
  union select name from (select name from artifact where name > ?1 order by name limit ?2)
) order by digest limit ?2

-- name: blob_used
-- Note that values are used.
update blob set orphan_at = 0 where digest in (select value from json_each(?)) and orphan_at <> 0

-- name: blob_drop
-- Delete values unused for long.
delete from blob where digest in (select value from json_each(?1)) and orphan_at between 1 and ?2 - 1

-- name: blob_orphan
-- Note that values seem unused.
update blob set orphan_at = ?2 where digest in (select value from json_each(?1)) and orphan_at = 0

-- name: artifact_used
-- Note that artifacts are used.
update artifact set orphan_at = 0 where name in (select value from json_each(?)) and orphan_at <> 0

-- name: artifact_doomed
-- Places of artifacts unused for long are nobody's.
insert into artifact_place (place, since)
select place, 0 from artifact where name in (select value from json_each(?1)) and orphan_at between 1 and ?2 - 1

-- name: artifact_drop
-- Delete artifacts unused for long.
delete from artifact where name in (select value from json_each(?1)) and orphan_at between 1 and ?2 - 1

-- name: artifact_orphan
-- Note that artifacts seem unused.
update artifact set orphan_at = ?2 where name in (select value from json_each(?1)) and orphan_at = 0

-- ============================================================================================= artifacts

-- name: place_begin
-- A place that is being filled.
insert into artifact_place (place, since) values (?, ?)

-- name: place_end
-- A place that is filled, unless it was given up.
delete from artifact_place where place = ? and since > 0

-- name: place_drop
-- A place that is nobody's.
insert into artifact_place (place, since) values (?, 0) on conflict do nothing

-- name: place_give_up
-- Places that were being filled for too long.
update artifact_place set since = 0 where since between 1 and ?1 - 1

-- name: place_stale
-- Places that are nobody's.
select place from artifact_place where since = 0 limit ?

-- name: place_forget
-- Places that are empty.
delete from artifact_place where since = 0 and place in (select value from json_each(?))

-- name: artifact
-- One artifact.
select name, size, place, body, created_at from artifact where ns = ? and name = ?

-- name: artifact_put
-- An artifact that is new, or has its bytes elsewhere now.
insert into artifact (ns, name, size, place, body, created_at) values (?, ?, ?, ?, ?, ?)
on conflict (ns, name) do update set place = excluded.place, created_at = excluded.created_at, orphan_at = 0

-- name: artifact_renew
-- Note that an artifact is used.
update artifact set orphan_at = 0 where ns = ? and name = ? and orphan_at <> 0

-- name: artifact_list
-- Artifacts of a namespace, newest first.
select name, size, place, body, created_at from artifact where ns = ? and (created_at, name) < (?, ?)
order by created_at desc, name desc limit ?

-- =========================================================================================== projections

-- name: tail
-- Groups of a writer after its cursor.
select writer, n, runs from batch where writer = ? and n > ? order by n limit ?

-- name: tail_heads
-- Each writer's newest group.
select id, n from (select w.id, (select max(n) from batch b where b.writer = w.id) as n from writer w)
where n is not null order by id

-- name: step_put
-- Upsert rows of the view of steps, of runs that still exist.
insert into step_view (projection, ns, run_id, step, node, kind, status, attempt, started_at, finished_at, error, as_of,
  reused, cache, stored, saved_ms, saved_usd_micros)
select * from (values {rows 17}) as v where exists (select 1 from run where id = v.column3)
on conflict (run_id, step) do update set
  projection = excluded.projection, ns = excluded.ns, node = excluded.node, kind = excluded.kind,
  status = excluded.status, attempt = excluded.attempt, started_at = excluded.started_at,
  finished_at = excluded.finished_at, error = excluded.error, as_of = excluded.as_of, reused = excluded.reused,
  cache = excluded.cache,
  stored = excluded.stored, saved_ms = excluded.saved_ms, saved_usd_micros = excluded.saved_usd_micros
where excluded.as_of >= step_view.as_of

-- name: projection_move
-- Remember where a projection stands.
insert into projection (name, writer, n) values (?, ?, ?)
on conflict (name, writer) do update set n = excluded.n where excluded.n > projection.n

-- name: projection_cursors
-- Where a projection stands.
select writer, n from projection where name = ?

-- name: projection_drop
-- Forget a projection's cursors.
delete from projection where name = ?

-- name: view_drop
-- Forget a projection's rows.
delete from step_view where projection = ?

-- name: step_list
-- A page of steps across runs, newest first.
select ns, run_id, step, node, kind, status, attempt, started_at, finished_at, error, as_of, reused,
  cache, stored, saved_ms, saved_usd_micros
from step_view
where ns = ?1 and (?2 is null or run_id = ?2) and (?3 is null or node = ?3) and (?4 is null or kind = ?4)
  and (?5 is null or status in (select value from json_each(?5)))
  and (?6 = 0 or started_at > ?6) and (?7 = 0 or started_at between 1 and ?7 - 1)
  and started_at <= coalesce(?8, 9223372036854775807)
  and (?8 is null or (started_at, run_id, step) < (?8, ?9, ?10))
order by started_at desc, run_id desc, step desc
limit ?11

-- ========================================================================================== checkpoints

-- name: checkpoint_put
-- Save a checkpoint; saved again, the newer counts.
insert into checkpoint (ns, thread, space, id, parent, run, refs, body, meta) values (?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (ns, thread, space, id) do update set
  parent = excluded.parent, run = excluded.run, refs = excluded.refs, body = excluded.body, meta = excluded.meta

-- name: checkpoint_value_put
-- Keep the value of a channel at a version.
insert into checkpoint_value (ns, thread, space, channel, version, body) values (?, ?, ?, ?, ?, ?)
on conflict (ns, thread, space, channel, version) do update set body = excluded.body

-- name: checkpoint_write_put
-- Keep what a task wrote; of special writes, which have negative numbers, the last counts.
insert into checkpoint_write (ns, thread, space, id, task, n, path, channel, body) values (?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (ns, thread, space, id, task, n) do update set
  path = excluded.path, channel = excluded.channel, body = excluded.body
where excluded.n < 0

-- part: checkpoint_columns
thread, space, id, parent, run, refs, body, meta

-- part: checkpoint_page
id between ?4 and ?5 and (?6 is null or id < ?6) and (?7 is null or (id, thread, space) < (?7, ?8, ?9))
order by id desc, thread desc, space desc limit ?10

-- name: checkpoint_of_thread
-- A page of the checkpoints of a thread in a space, along the key.
select {checkpoint_columns} from checkpoint where ns = ?1 and thread = ?2 and space = ?3 and {checkpoint_page}

-- name: checkpoint_list
-- A page of checkpoints.
select {checkpoint_columns} from checkpoint
where ns = ?1 and (?2 is null or thread = ?2) and (?3 is null or space = ?3) and {checkpoint_page}

-- name: checkpoint_value
-- One value.
select body from checkpoint_value where ns = ? and thread = ? and space = ? and channel = ? and version = ?

-- name: checkpoint_writes
-- The writes after a checkpoint, in the order in which they were applied.
select task, n, path, channel, body from checkpoint_write
where ns = ? and thread = ? and space = ? and id = ? order by path, task, n

-- name: checkpoint_doomed
-- Checkpoints of threads, of runs, or by name.
select thread, space, id from checkpoint where ns = ?1 and thread in (select value from json_each(?2))
union
select thread, space, id from checkpoint where ns = ?1 and run <> '' and run in (select value from json_each(?3))
union
select c.thread, c.space, c.id from json_each(?4) as p
join checkpoint c on c.ns = ?1 and c.thread = json_extract(p.value, '$[0]')
  and c.space = json_extract(p.value, '$[1]') and c.id = json_extract(p.value, '$[2]')

-- name: checkpoint_drop
-- Forget a checkpoint.
delete from checkpoint where ns = ? and thread = ? and space = ? and id = ?

-- name: checkpoint_write_drop
-- Forget the writes after a checkpoint.
delete from checkpoint_write where ns = ? and thread = ? and space = ? and id = ?

-- name: checkpoint_thread_write_drop
-- Forget all writes of a thread.
delete from checkpoint_write where ns = ? and thread = ?

-- name: checkpoint_value_drop
-- Forget the values of a thread that no checkpoint refers to.
delete from checkpoint_value where ns = ?1 and thread = ?2 and (space, channel, version) not in (
  select c.space, json_extract(r.value, '$[0]'), json_extract(r.value, '$[1]')
  from checkpoint c, json_each(c.refs) as r where c.ns = ?1 and c.thread = ?2)
-- ================================================================================================= funds

-- name: cap_put
-- Set a cap; settings leave one alone that a person set.
insert into cap (ns, scope, period, most, warn_percent, source) values (?, ?, ?, ?, ?, ?)
on conflict (ns, scope, period) do update set
  most = excluded.most, warn_percent = excluded.warn_percent, source = excluded.source
where cap.source <> 'api' or excluded.source = 'api'

-- name: cap_drop
-- Remove a cap, of one source only if that is given.
delete from cap where ns = ?1 and scope = ?2 and period = ?3 and (?4 = '' or source = ?4)

-- name: caps
-- Caps of a namespace.
select ns, scope, period, most, warn_percent, source from cap where ns = ? order by scope, period

-- name: all_caps
-- Every cap.
select ns, scope, period, most, warn_percent, source from cap

-- name: balances
-- What counts in the places of a namespace.
select ns, scope, win, spent, held, unknown, overrun, warned from balance where ns = ? order by scope, win

-- name: balance
-- What counts in one place.
select ns, scope, win, spent, held, unknown, overrun, warned from balance where ns = ? and scope = ? and win = ?

-- name: balance_put
-- Write what counts in one place.
insert or replace into balance (ns, scope, win, spent, held, unknown, overrun, warned) values (?, ?, ?, ?, ?, ?, ?, ?)

-- part: hold_columns
ns, run_id, n, step, call, usd, slot, places, lost, since

-- name: hold
-- One hold.
select {hold_columns} from hold where run_id = ? and n = ?

-- name: holds
-- Holds of a namespace, oldest first.
select {hold_columns} from hold
where ns = ?1 and (?2 is null or run_id = ?2) and (?3 is null or lost = ?3)
order by since, run_id, n limit ?4

-- name: hold_put
-- Keep a hold.
insert or replace into hold ({hold_columns}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: hold_drop
-- Forget a hold that was settled.
delete from hold where run_id = ? and n = ?

-- part: want_columns
ns, run_id, step, call, usd, project, slot, since, told_at

-- name: wants
-- Calls of a namespace that wait for room, longest first.
select {want_columns} from want where ns = ? order by since, run_id limit ?

-- name: all_wants
-- Calls that wait for room, longest first.
select {want_columns} from want order by since limit ?

-- name: want_put
-- Let a call wait for room.
insert or replace into want ({want_columns}) values (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: want_drop
-- A call waits no longer.
delete from want where run_id = ? and step = ? and call = ?

-- name: wants_drop
-- No call of a run waits any longer.
delete from want where run_id = ?

-- name: data_keys
-- Wrapped keys in the order they were made.
select id, ns, use, wrapped, master, created_at, destroyed_at from data_key order by no

-- name: data_key_add
-- Keep a key; a second index key of a namespace is left out.
insert into data_key (id, ns, use, wrapped, master, created_at) values (?, ?, ?, ?, ?, ?)
on conflict (ns) where use = 'index' and destroyed_at = 0 do nothing

-- name: data_key_rewrap
-- Another wrapping of a key.
update data_key set wrapped = ?2, master = ?3 where id = ?1 and destroyed_at = 0

-- name: data_key_destroy
-- Forget the keys of a namespace.
update data_key set wrapped = x'', destroyed_at = ?2 where ns = ?1 and destroyed_at = 0

-- name: overwrite_deleted
-- Write zeros over what this connection deletes from now on.
pragma secure_delete = on

-- name: checkpoint_truncate
-- Move the log into the file and empty it.
pragma wal_checkpoint(truncate)

-- =============================================================================================== usage

-- part: usage_columns
ns, run_id, step, call, seq, n, as_of, at, agent, workflow, project, kind, state, provider, model, purpose, tool, tokens,
input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_usd_micros

-- part: usage_where
ns = ?1 and at >= ?2 and (?3 = 0 or at < ?3) and (?4 is null or run_id = ?4) and (?5 is null or workflow = ?5)
  and (?6 is null or project = ?6) and (?7 is null or provider = ?7) and (?8 is null or model = ?8)
  and (?9 is null or agent = ?9) and (?10 is null or purpose = ?10) and (?11 is null or tool = ?11)
  and (?12 is null or kind = ?12) and (?13 is null or state = ?13)

-- name: usage_put
-- Upsert calls as they were paid for; a row made from an older record never replaces one made from a newer.
insert into usage (projection, {usage_columns})
select * from (values {rows 25}) as v where true
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

-- name: usage_reset
-- Forget a projection's calls of runs that exist: they can be made anew, but of bills.
delete from usage where projection = ? and as_of < 2147483647 and run_id in (select id from run)

-- name: usage_drop
-- Forget calls of long ago.
delete from usage where (run_id, seq, n) in (select run_id, seq, n from usage where at < ?1 limit ?2)

-- name: usage_list
-- A page of calls, newest first.
select {usage_columns}
from usage
where {usage_where}
  and at <= coalesce(?14, 9223372036854775807)
  and (?14 is null or (at, run_id, seq, n) < (?14, ?15, ?16, ?17))
order by at desc, run_id desc, seq desc, n desc
limit ?18

-- name: usage_sum
-- Sums over the calls of each group.
select case ?14 when 'day' then strftime('%Y-%m-%d', at / 1000, 'unixepoch') when 'model' then model
         when 'provider' then provider when 'workflow' then workflow when 'project' then project when 'agent' then agent
         when 'purpose' then purpose when 'tool' then tool when 'kind' then kind when 'run' then id_text(run_id)
         else '' end as key,
       count(distinct run_id) as runs, count(*) as calls,
       count(*) filter (where state = 'failed') as failed, count(*) filter (where state = 'unknown') as unknown,
       coalesce(sum(tokens) filter (where state <> 'unknown'), 0) as tokens,
       coalesce(sum(input_tokens), 0) as input_tokens, coalesce(sum(cached_tokens), 0) as cached_tokens,
       coalesce(sum(cache_write_tokens), 0) as cache_write_tokens, coalesce(sum(output_tokens), 0) as output_tokens,
       coalesce(sum(reasoning_tokens), 0) as reasoning_tokens,
       coalesce(sum(cost_usd_micros) filter (where state <> 'unknown'), 0) as cost_usd_micros,
       coalesce(sum(tokens) filter (where state = 'unknown'), 0) as unknown_tokens,
       coalesce(sum(cost_usd_micros) filter (where state = 'unknown'), 0) as unknown_cost_usd_micros
from usage
where {usage_where}
group by 1
order by case ?14 when 'day' then key end desc, cost_usd_micros desc, tokens desc, key
limit ?15

-- ================================================================================================= services

-- name: report_put
-- Replace what a process reported.
insert into report (process, role, services, answered, until) values (?, ?, ?, ?, ?)
on conflict (process) do update set role = excluded.role, services = excluded.services, answered = excluded.answered,
  until = excluded.until

-- name: report_forget
-- Forget reports that ended.
delete from report where until <= ?

-- name: report_drop
-- Forget what a process reported.
delete from report where process = ?

-- name: reports
-- What processes reported that are not known to be gone.
select process, role, services, answered, until from report where until > ? order by process

-- name: look_ask
-- Ask every process to look again; numbers are times where the clock goes on.
update look set asked = max(asked + 1, ?)

-- name: look_asked
-- The newest wish to look again.
select asked from look

-- ================================================================================================= findings

-- name: run_replays
-- What a run is a replay of.
select replay_of from run where id = ? and ns = ?

-- name: finding_delete
-- Remember that a finding was deleted; the first time counts.
insert into deleted_finding (run_id, id, ns, by, reason, at) values (?, ?, ?, ?, ?, ?) on conflict do nothing

-- name: findings_deleted
-- What was deleted of a run.
select id, by, reason, at from deleted_finding where run_id = ?

-- name: findings_forget
-- Forget what was deleted of a run that is deleted itself.
delete from deleted_finding where run_id = ?

-- =================================================================================================== starts

-- name: starts_forget
-- Forget starts that no window holds any more.
delete from start_taken where at <= ?

-- name: starts
-- The starts of a caller in a tier.
select id, at from start_taken where ns = ? and caller = ? and tier = ?

-- name: start_put
-- Count a start.
insert into start_taken (ns, caller, tier, id, at) values (?, ?, ?, ?, ?)

-- name: start_drop
-- Count a start no longer.
delete from start_taken where ns = ? and caller = ? and tier = ? and id = ?

-- ================================================================================================ proposals

-- part: proposal_columns
ns, id, workflow, tag, base, digest, author, optimizer, rule, state, body, answer, at, decided_at

-- name: proposal_known
-- The newest proposal of the same change of the same version in some states.
select {proposal_columns} from proposal
where ns = ?1 and workflow = ?2 and tag = ?3 and base = ?4 and digest = ?5
  and state in (select value from json_each(?6))
order by at desc, id desc limit 1

-- name: proposals_waiting
-- How many proposals of a workflow wait.
select count(*) from proposal where ns = ? and workflow = ? and state = 'proposed'

-- name: proposal_put
-- Keep a proposal.
insert into proposal (ns, id, workflow, tag, base, digest, author, optimizer, rule, body, at, state, answer, decided_at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'proposed', x'', 0)

-- name: proposal_get
-- One proposal.
select {proposal_columns} from proposal where ns = ? and id = ?

-- name: proposal_list
-- A page of proposals, newest first.
select {proposal_columns} from proposal
where ns = ?1 and (?2 is null or workflow = ?2) and (?3 is null or tag = ?3) and (?4 is null or author = ?4)
  and (?5 is null or state in (select value from json_each(?5)))
  and (?6 is null or (at, id) < (?6, ?7))
order by at desc, id desc limit ?8

-- name: proposal_settle
-- Say what became of a proposal that waits.
update proposal set state = ?, answer = ?, decided_at = ? where ns = ? and id = ? and state = 'proposed'

-- =============================================================================================== optimizers

-- part: optimizer_columns
ns, name, digest, size, enabled, failures, error, by, added_at, quarantined_at

-- name: optimizer_put
-- Keep a plug-in; the same module again changes nothing, another one begins anew.
insert into optimizer (ns, name, digest, size, by, module, added_at, enabled, failures, error, quarantined_at)
values (?, ?, ?, ?, ?, ?, ?, 1, 0, '', 0)
on conflict (ns, name) do update set
  digest = excluded.digest, size = excluded.size, by = excluded.by, module = excluded.module,
  added_at = excluded.added_at, enabled = 1, failures = 0, error = '', quarantined_at = 0
where optimizer.digest <> excluded.digest

-- name: optimizer_get
-- One plug-in without its module.
select {optimizer_columns} from optimizer where ns = ? and name = ?

-- name: optimizer_list
-- The plug-ins of a namespace without their modules.
select {optimizer_columns} from optimizer where ns = ? order by name

-- name: optimizer_module
-- The bytes of a plug-in.
select module from optimizer where ns = ? and name = ?

-- name: optimizer_drop
-- Forget a plug-in.
delete from optimizer where ns = ? and name = ?

-- name: optimizer_enable
-- Let a plug-in be asked, or not.
update optimizer set enabled = ?, failures = 0, error = '', quarantined_at = 0 where ns = ? and name = ?

-- name: optimizer_note
-- Note what came of asking a plug-in.
update optimizer set
  failures = case when ?1 = '' then 0 else failures + 1 end, error = ?1,
  quarantined_at = case when ?1 <> '' and failures + 1 >= ?2 and quarantined_at = 0 then ?3 else quarantined_at end
where ns = ?4 and name = ?5 and digest = ?6

-- A run that completed has no step that is under way, unless the table of steps is behind.
-- part: observed
with seen as (
  select id, status, finished_at - started_at as ms from run
  where substr(digest, 8, 8) = substr(?3, 8, 8) and ns = ?1 and digest = ?3 and workflow = ?2 and state = 'done' and status in ('completed', 'failed')
    and replay_of is null
    and (status = 'failed' or exists (select 1 from step_view s where s.run_id = run.id))
    and (status = 'failed' or not exists (
      select 1 from step_view s where s.run_id = run.id and s.status in ('ready', 'running', 'waiting', 'retrying')))
  order by created_at desc, id desc limit ?4
)

-- name: observed_runs
-- What the newest ended runs of a version took.
{observed}
select count(*) filter (where status = 'completed'), count(*) filter (where status = 'failed'),
  max(case when status = 'completed' and place = (n + 1) / 2 then ms end),
  max(case when status = 'completed' and place = (n * 95 + 99) / 100 then ms end)
from (select status, ms, row_number() over (partition by status order by ms) as place,
             count(*) over (partition by status) as n from seen)

-- name: observed_steps
-- What became of the steps of those runs, by node.
{observed}
select node, count(*) filter (where status = 'completed'), count(*) filter (where status in ('failed', 'dead_letter')),
  count(*) filter (where status = 'skipped'), sum(max(attempt - 1, 0)), sum(reused),
  count(*) filter (where status in ('completed', 'failed', 'dead_letter') and not reused),
  max(case when timed and place = (n + 1) / 2 then ms end),
  max(case when timed and place = (n * 95 + 99) / 100 then ms end)
from (select *, row_number() over (partition by node, timed order by ms) as place, count(*) over (partition by node, timed) as n
      from (select node, s.status as status, attempt, reused, finished_at - started_at as ms,
                   s.status = 'completed' and attempt <= 1 and started_at > 0 and not reused as timed
            from seen join step_view s on s.run_id = seen.id))
group by node order by node

-- name: observed_costs
-- What the calls of those runs cost, by node.
{observed}
select agent, sum(cost_usd_micros) from usage join seen on seen.id = usage.run_id where state <> 'unknown' group by agent

-- name: ended_since
-- How many ended runs of a version were created after a moment.
select count(*), coalesce(max(created_at), ?4) from (
  select created_at from run
  where substr(digest, 8, 8) = substr(?3, 8, 8) and ns = ?1 and digest = ?3 and workflow = ?2 and created_at > ?4 and state = 'done'
    and status in ('completed', 'failed') and replay_of is null
  order by created_at desc limit ?5)

-- name: look_list
-- How far the runs of workflows have been looked at.
select workflow, version, mark from optimizer_look where ns = ? order by workflow

-- name: look_put
-- Say how far the runs of a workflow have been looked at.
insert into optimizer_look (ns, workflow, version, mark) values (?, ?, ?, ?)
on conflict (ns, workflow) do update set version = excluded.version, mark = excluded.mark

-- ==================================================================================================== cache

-- name: cache_get
-- Results under some keys that have not expired.
select key, workflow, node, body, size, took_ms, cost_usd_micros, created_at from cache_entry
where ns = ?1 and key in (select value from json_each(?2)) and (expires_at = 0 or expires_at > ?3)

-- name: cache_stamp
-- How often something of a namespace was invalidated.
select n from cache_stamp where ns = ?

-- name: cache_stamp_next
-- Let nothing be kept any more that was computed before now.
insert into cache_stamp (ns, n) values (?, 1) on conflict (ns) do update set n = n + 1

-- name: cache_put
-- Keep a result.
insert or replace into cache_entry
  (ns, key, workflow, node, body, size, took_ms, cost_usd_micros, created_at, expires_at, names)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: cache_expire
-- Forget results whose time is over.
delete from cache_entry where expires_at between 1 and ?

-- name: cache_total
-- How much a namespace keeps.
select count(*), coalesce(sum(size), 0) from cache_entry where ns = ?

-- name: cache_evict
-- Forget the results put first, until a namespace keeps no more than it may.
delete from cache_entry where ns = ?1 and key in (
  select key from (
    select key, row_number() over age as n, sum(size) over age as total from cache_entry where ns = ?1
    window age as (order by created_at desc, key desc rows unbounded preceding)
  ) where n > ?2 or total > ?3
)

-- name: cache_drop
-- Forget results by what was computed.
delete from cache_entry
where ns = ?1 and (?2 = '' or key = ?2) and (?3 = '' or workflow = ?3) and (?4 = '' or node = ?4)

-- name: cache_sizes
-- What is kept, by node.
select workflow, node, count(*), sum(size) from cache_entry
where ns = ?1 and (expires_at = 0 or expires_at > ?2) group by workflow, node order by workflow, node

-- name: cache_counts
-- What the cache had to do with steps that ended, by workflow and node.
select r.workflow, s.node, s.cache, count(*), sum(s.stored), sum(s.saved_ms), sum(s.saved_usd_micros)
from step_view s indexed by step_view_cache join run r on r.id = s.run_id
where s.ns = ? and s.cache <> '' group by r.workflow, s.node, s.cache order by r.workflow, s.node, s.cache

-- name: flight_take
-- Take what nobody with a living lease computes.
insert into cache_flight (ns, key, worker)
select ?1, ?2, ?3 where exists (select 1 from worker where id = ?3 and lease_until > ?4)
on conflict (ns, key) do update set worker = excluded.worker
where worker = excluded.worker
  or not exists (select 1 from worker w where w.id = cache_flight.worker and w.lease_until > ?4)

-- name: flights
-- What somebody with a living lease computes of some keys.
select ns, key from cache_flight f
where (ns, key) in (select value ->> 0, value ->> 1 from json_each(?1))
  and exists (select 1 from worker w where w.id = f.worker and w.lease_until > ?2)

-- name: flight_end
-- Compute it no more.
delete from cache_flight where ns = ? and key = ? and worker = ?

-- name: flights_of_dead
-- Forget what nobody alive computes.
delete from cache_flight
where not exists (select 1 from worker w where w.id = cache_flight.worker and w.lease_until > ?)
