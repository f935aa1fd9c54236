-- Who did what, for owners. Of a branch or session that is gone the entries stay, so nothing here refers to a table.
-- id grows with time. by_kind: `environment`, `token`, `session`, `link` or `command`. detail: JSON of a few short words, never
-- a secret or a text that somebody wrote.
create table audit (
    id text primary key,
    at_ms bigint not null,
    branch_id text,
    action text not null,
    by_kind text not null,
    by_id text,
    address text,
    subject text,
    detail text not null
);
create index audit_of_branch on audit (branch_id, id);
