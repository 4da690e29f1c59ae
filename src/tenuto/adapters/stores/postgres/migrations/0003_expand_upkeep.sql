-- What upkeep needs: whether a run has said that it heard a decision, since when a blob seems unused, and each writer's
-- newest group at a moment.
alter table ticket add column unheard boolean not null default false;
alter table blob add column orphan_at bigint not null default 0;
alter table writer add column mark int not null default 0;
alter table writer add column marked_at bigint not null default 0;
