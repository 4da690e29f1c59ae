-- Changes of workflows that wait for somebody to decide, and what became of them.
create table proposal (
    ns text collate "C" not null,
    id text collate "C" not null,
    workflow text collate "C" not null,
    tag text not null,
    base text not null,
    digest text not null,
    author text not null,
    optimizer text not null,
    rule text not null,
    state text not null,
    body bytea not null,
    answer bytea not null,
    at bigint not null,
    decided_at bigint not null,
    primary key (ns, id)
);
create index proposal_listed on proposal (ns, at, id);
create index proposal_of on proposal (ns, workflow, at, id);
create unique index proposal_waits on proposal (ns, workflow, tag, base, digest) where state = 'proposed';

-- Optimizers that were added while everything runs, with their modules.
create table optimizer (
    ns text collate "C" not null,
    name text collate "C" not null,
    digest text not null,
    size integer not null,
    enabled boolean not null,
    failures integer not null,
    error text not null,
    by text not null,
    added_at bigint not null,
    quarantined_at bigint not null,
    module bytea not null,
    primary key (ns, name)
);

-- How far the runs of workflows have been looked at by the search for improvements.
create table optimizer_look (
    ns text collate "C" not null,
    workflow text collate "C" not null,
    version text not null,
    mark bigint not null,
    primary key (ns, workflow)
);

-- The newest runs of one version, found by a part of its digest: every run has an entry, and the whole is looked at in the row.
create index run_version on run (substr(digest, 1, 4), created_at);

-- Whether a step's result came from the cache.
alter table step_view add column reused boolean not null default false;
