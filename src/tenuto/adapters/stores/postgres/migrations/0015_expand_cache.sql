-- Results of steps kept for others. Every row may be lost: a lost one is computed anew.
create table cache_entry (
    ns text collate "C" not null,
    key text collate "C" not null,
    workflow text collate "C" not null,
    node text collate "C" not null,
    body bytea not null,
    size int not null,
    took_ms bigint not null,
    cost_usd_micros bigint not null,
    created_at bigint not null,
    expires_at bigint not null,
    names text not null,
    primary key (ns, key)
);
create index cache_entry_age on cache_entry (ns, created_at, key) include (size);
create index cache_entry_names on cache_entry (ns, key) where names <> '';
create index cache_entry_end on cache_entry (expires_at);

-- How often something of a namespace was invalidated; what was computed before the last time is not kept any more.
create table cache_stamp (ns text collate "C" primary key, n bigint not null);

-- Who computes a result just now, for as long as its lease lasts.
create table cache_flight (
    ns text collate "C" not null,
    key text collate "C" not null,
    worker text not null,
    primary key (ns, key)
);

-- What the cache had to do with the outcomes of steps.
alter table step_view add column cache text not null default '';
alter table step_view add column stored boolean not null default false;
alter table step_view add column saved_ms bigint not null default 0;
alter table step_view add column saved_usd_micros bigint not null default 0;
create index step_view_cache on step_view (ns, run_id, node) where cache <> '';
