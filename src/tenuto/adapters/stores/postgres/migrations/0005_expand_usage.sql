-- What calls cost, one row a call, made from the journals. The rows outlive their runs. `as_of` is the record a row was last
-- made from. The projection begins anew, so that calls of older journals are found too.
create table usage (
    run_id uuid not null,
    seq int not null,
    n int not null,
    as_of int not null,
    at bigint not null,
    tokens bigint not null,
    input_tokens bigint not null,
    cached_tokens bigint not null,
    cache_write_tokens bigint not null,
    output_tokens bigint not null,
    reasoning_tokens bigint not null,
    cost_usd_micros bigint not null,
    ns text not null,
    step text not null,
    call text not null,
    agent text not null,
    workflow text not null,
    project text not null,
    kind text not null,
    state text not null check (state in ('settled', 'failed', 'unknown')),
    provider text not null,
    model text not null,
    purpose text not null,
    tool text not null,
    projection text not null,
    primary key (run_id, seq, n)
);
create index usage_listed on usage (ns, at, run_id, seq, n);
delete from projection where name = 'steps';
