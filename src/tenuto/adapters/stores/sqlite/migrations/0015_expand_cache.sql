-- Results of steps kept for others. Every row may be lost: a lost one is computed anew.
create table cache_entry (
    ns text not null,
    key text not null,
    workflow text not null,
    node text not null,
    body blob not null,
    size integer not null,
    took_ms integer not null,
    cost_usd_micros integer not null,
    created_at integer not null,
    expires_at integer not null,
    names text not null,
    primary key (ns, key)
);
create index cache_entry_age on cache_entry (ns, created_at, key, size);
create index cache_entry_names on cache_entry (names) where names <> '';
create index cache_entry_end on cache_entry (expires_at);

-- How often something of a namespace was invalidated; what was computed before the last time is not kept any more.
create table cache_stamp (ns text primary key, n integer not null) without rowid;

-- Who computes a result just now, for as long as its lease lasts.
create table cache_flight (
    ns text not null,
    key text not null,
    worker text not null,
    primary key (ns, key)
) without rowid;

-- What the cache had to do with the outcomes of steps.
alter table step_view add column cache text not null default '';
alter table step_view add column stored integer not null default 0;
alter table step_view add column saved_ms integer not null default 0;
alter table step_view add column saved_usd_micros integer not null default 0;
create index step_view_cache on step_view (ns, run_id, node) where cache <> '';
