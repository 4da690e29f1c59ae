-- States of graphs that run elsewhere. `refs` lists channel and version of each value that belongs to a checkpoint;
-- values stand apart, because most are the same from one checkpoint to the next. Keys are compared by code point,
-- whatever the language of the database.
create table checkpoint (
    ns text not null,
    thread text collate "C" not null,
    space text collate "C" not null,
    id text collate "C" not null,
    parent text not null,
    run text not null,
    refs jsonb not null,
    body bytea not null,
    meta bytea not null,
    primary key (ns, thread, space, id)
);
create index checkpoint_run on checkpoint (ns, run) where run <> '';

create table checkpoint_value (
    ns text not null,
    thread text collate "C" not null,
    space text collate "C" not null,
    channel text collate "C" not null,
    version text collate "C" not null,
    body bytea not null,
    primary key (ns, thread, space, channel, version)
);

-- What tasks wrote after a checkpoint; the checkpoint itself may come later.
create table checkpoint_write (
    ns text not null,
    thread text collate "C" not null,
    space text collate "C" not null,
    id text collate "C" not null,
    task text collate "C" not null,
    n int not null,
    path text collate "C" not null,
    channel text not null,
    body bytea not null,
    primary key (ns, thread, space, id, task, n)
);
