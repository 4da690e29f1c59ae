-- States of graphs that run elsewhere. `refs` lists channel and version of each value that belongs to a checkpoint;
-- values stand apart, because most are the same from one checkpoint to the next.
create table checkpoint (
    ns text not null,
    thread text not null,
    space text not null,
    id text not null,
    parent text not null,
    run text not null,
    refs text not null,
    body blob not null,
    meta blob not null,
    primary key (ns, thread, space, id)
);
create index checkpoint_run on checkpoint (ns, run) where run <> '';

create table checkpoint_value (
    ns text not null,
    thread text not null,
    space text not null,
    channel text not null,
    version text not null,
    body blob not null,
    primary key (ns, thread, space, channel, version)
);

-- What tasks wrote after a checkpoint; the checkpoint itself may come later.
create table checkpoint_write (
    ns text not null,
    thread text not null,
    space text not null,
    id text not null,
    task text not null,
    n integer not null,
    path text not null,
    channel text not null,
    body blob not null,
    primary key (ns, thread, space, id, task, n)
);
