-- Where the tags of workflows have been, and the overlays that made versions of others.
create table tag_move (
    ns text collate "C" not null,
    name text collate "C" not null,
    tag text collate "C" not null,
    n integer not null,
    digest text not null,
    former text not null,
    kind text not null,
    by text not null,
    author text not null,
    reason text not null,
    ops bytea not null,
    evidence bytea not null,
    at bigint not null,
    primary key (ns, name, tag, n)
);
