-- Keys that seal what a namespace stores, each wrapped by a master key that is not here; empty once destroyed.
create table data_key (
    no bigint generated always as identity primary key,
    id text not null unique,
    ns text not null,
    use text not null check (use in ('data', 'index')),
    wrapped bytea not null,
    master text not null,
    created_at bigint not null,
    destroyed_at bigint not null default 0
);
create unique index data_key_index on data_key (ns) where use = 'index' and destroyed_at = 0;
