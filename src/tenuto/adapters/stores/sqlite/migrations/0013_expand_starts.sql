-- Starts of runs within the last minute, by who asked and by how heavy the workflow is. Rows older than that mean nothing.
create table start_taken (
    ns text not null,
    caller text not null,
    tier text not null,
    id text not null,
    at integer not null,
    primary key (ns, caller, tier, id)
) without rowid;
create index start_taken_at on start_taken (at);
