-- The record a row was last made from, so that a projector that has fallen behind replaces nothing newer.
alter table step_view add column as_of int not null default 0;
