-- What people were told of a question, as far as it was planned; what ended before this step needs no telling.
alter table ticket add column told text not null default '';
update ticket set told = state where state <> 'open';
create index ticket_news on ticket (ns, created_at, id) where told not in ('decided', 'closed');

-- Messages to people; each is taken, until `held_until`, by the process that sends it.
create table notification (
    n bigint generated always as identity primary key,
    ns text not null,
    id text not null,
    ticket text not null,
    run_id uuid not null,
    asked bigint not null,
    event text not null,
    channel text not null,
    lane text not null,
    body bytea not null,
    state text not null check (state in ('due', 'sent', 'failed')),
    attempts integer not null,
    due_at bigint not null,
    held_until bigint not null,
    error text not null,
    created_at bigint not null,
    ended_at bigint not null,
    unique (ns, id)
);
create index notification_due on notification (ns, due_at) where state = 'due';
create index notification_lane on notification (ns, lane, n) where state = 'due';
create index notification_ticket on notification (ns, ticket, n);
create index notification_run on notification (run_id);
