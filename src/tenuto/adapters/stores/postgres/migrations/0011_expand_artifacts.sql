-- Bytes of any size that a depot has: the store knows their digest and place, and since when nothing seems to use them.
create table artifact (
    ns text not null,
    name text collate "C" not null,
    size bigint not null,
    place text not null,
    body bytea not null,
    created_at bigint not null,
    orphan_at bigint not null default 0,
    primary key (ns, name)
);
create index artifact_name on artifact (name);
create index artifact_new on artifact (ns, created_at, name);

-- Places that are nobody's: being filled since a time, or given up (0) and to be emptied.
create table artifact_place (
    place text primary key,
    since bigint not null
);
