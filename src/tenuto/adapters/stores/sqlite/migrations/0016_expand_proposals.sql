-- Changes of workflows that wait for somebody to decide, and what became of them.
create table proposal (
    ns text not null,
    id text not null,
    workflow text not null,
    tag text not null,
    base text not null,
    digest text not null,
    author text not null,
    optimizer text not null,
    rule text not null,
    state text not null,
    body blob not null,
    answer blob not null,
    at integer not null,
    decided_at integer not null,
    primary key (ns, id)
) without rowid;
create index proposal_listed on proposal (ns, at, id);
create index proposal_of on proposal (ns, workflow, at, id);
create unique index proposal_waits on proposal (ns, workflow, tag, base, digest) where state = 'proposed';

-- Optimizers that were added while everything runs, with their modules.
create table optimizer (
    ns text not null,
    name text not null,
    digest text not null,
    size integer not null,
    enabled integer not null,
    failures integer not null,
    error text not null,
    by text not null,
    added_at integer not null,
    quarantined_at integer not null,
    module blob not null,
    primary key (ns, name)
);

-- How far the runs of workflows have been looked at by the search for improvements.
create table optimizer_look (
    ns text not null,
    workflow text not null,
    version text not null,
    mark integer not null,
    primary key (ns, workflow)
) without rowid;

-- The newest runs of one version, found by a part of its digest: every run has an entry, and the whole is looked at in the row.
create index run_version on run (substr(digest, 8, 8), created_at);

-- Whether a step's result came from the cache.
alter table step_view add column reused integer not null default 0;
