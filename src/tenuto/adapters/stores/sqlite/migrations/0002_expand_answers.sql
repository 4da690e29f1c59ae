-- What a command sent under an idempotency key was answered, for whoever sends it again.
alter table idempotency add column answer text not null default '';
