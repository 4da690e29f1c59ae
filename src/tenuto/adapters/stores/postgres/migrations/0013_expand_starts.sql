-- Starts of runs within the last minute, by who asked and by how heavy the workflow is. Rows older than that mean nothing.
create table start_taken (
    ns text not null,
    caller text not null,
    tier text not null,
    id text collate "C" not null,
    at bigint not null,
    primary key (ns, caller, tier, id)
);
create index start_taken_at on start_taken (at);
