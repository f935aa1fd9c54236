-- Portable between SQLite and Postgres: text, bigint (milliseconds since 1970 UTC, or counts), boolean, bytea.
create table api_token (
    id text primary key,
    name text not null,
    hash bytea not null unique,
    is_owner boolean not null,
    created_at_ms bigint not null,
    revoked_at_ms bigint
);

create table branch (
    id text primary key,
    name text not null,
    description text not null,
    tags text not null,
    state text not null,
    error text,
    git_url text,
    git_ref text,
    forked_from text,
    created_at_ms bigint not null,
    updated_at_ms bigint not null
);
create index branch_by_age on branch (created_at_ms, id);

create table session (
    branch_id text not null references branch (id) on delete cascade,
    id text not null,
    permission text not null,
    name text,
    email text,
    color text not null,
    epoch bigint not null,
    created_at_ms bigint not null,
    updated_at_ms bigint not null,
    ended_at_ms bigint,
    primary key (branch_id, id)
);

create table link (
    id text primary key,
    branch_id text not null references branch (id) on delete cascade,
    hash bytea not null unique,
    permission text not null,
    expires_at_ms bigint,
    max_uses bigint,
    uses bigint not null,
    created_at_ms bigint not null,
    revoked_at_ms bigint
);

create table document (
    id text primary key,
    branch_id text not null references branch (id) on delete cascade,
    path text not null,
    generation bigint not null,
    is_live boolean not null,
    reason text,
    created_at_ms bigint not null,
    closed_at_ms bigint,
    synced_position bigint not null,
    synced_hash bytea,
    outside text not null,
    intent text
);
create unique index document_live_path on document (branch_id, path) where is_live;

create table document_snapshot (
    document_id text not null references document (id) on delete cascade,
    position bigint not null,
    data bytea not null,
    created_at_ms bigint not null,
    primary key (document_id, position)
);

-- One row per document per group commit: updates first_position to position. A second writer fails on the key.
create table document_log (
    document_id text not null references document (id) on delete cascade,
    first_position bigint not null,
    position bigint not null,
    data bytea not null,
    at_ms bigint not null,
    primary key (document_id, first_position)
);

-- Which session wrote which clocks of which client id, and when; compaction keeps it.
create table document_author (
    document_id text not null references document (id) on delete cascade,
    client_id bigint not null,
    clock_start bigint not null,
    clock_end bigint not null,
    session_id text not null,
    at_ms bigint not null,
    primary key (document_id, client_id, clock_start)
);

create table draft (
    id text primary key,
    branch_id text not null references branch (id) on delete cascade,
    document_id text,
    path text not null,
    session_id text not null,
    reason text not null,
    data bytea not null,
    created_at_ms bigint not null
);
create index draft_by_branch on draft (branch_id, created_at_ms);
