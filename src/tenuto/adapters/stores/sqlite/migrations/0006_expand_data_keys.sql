-- Keys that seal what a namespace stores, each wrapped by a master key that is not here; empty once destroyed.
create table data_key (
    no integer primary key,
    id text not null unique,
    ns text not null,
    use text not null check (use in ('data', 'index')),
    wrapped blob not null,
    master text not null,
    created_at integer not null,
    destroyed_at integer not null default 0
);
create unique index data_key_index on data_key (ns) where use = 'index' and destroyed_at = 0;
