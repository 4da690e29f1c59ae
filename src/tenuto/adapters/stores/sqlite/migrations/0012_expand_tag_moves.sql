-- Where the tags of workflows have been, and the overlays that made versions of others.
create table tag_move (
    ns text not null,
    name text not null,
    tag text not null,
    n integer not null,
    digest text not null,
    former text not null,
    kind text not null,
    by text not null,
    author text not null,
    reason text not null,
    ops blob not null,
    evidence blob not null,
    at integer not null,
    primary key (ns, name, tag, n)
) without rowid;
