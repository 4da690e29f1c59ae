-- Findings of agents that a person deleted: later prompts of the run, and of its replays, leave them out. The findings
-- themselves stand in the outputs of steps.
create table deleted_finding (
    run_id uuid not null,
    id text collate "C" not null,
    ns text not null,
    by text not null,
    reason text not null,
    at bigint not null,
    primary key (run_id, id)
);
