-- What each process reaches outside, as it last saw it; gone when the process is.
create table report (
    process text primary key,
    role text not null,
    services blob not null,
    answered integer not null,
    until integer not null
);

-- The newest wish that all processes look again: one row, whose number grows.
create table look (
    id integer primary key check (id = 1),
    asked integer not null
);
insert into look (id, asked) values (1, 0);
