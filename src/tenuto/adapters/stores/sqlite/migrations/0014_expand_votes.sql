-- How many answers a question has got, where several people have to answer it.
alter table ticket add column votes integer not null default 0;
