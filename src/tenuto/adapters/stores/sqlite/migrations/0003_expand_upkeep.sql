-- What upkeep needs: whether a run has said that it heard a decision, since when a blob seems unused, and each writer's
-- newest group at a moment.
alter table ticket add column unheard integer not null default 0;
alter table blob add column orphan_at integer not null default 0;
alter table writer add column mark integer not null default 0;
alter table writer add column marked_at integer not null default 0;
