-- What the SDK's protocol knows of a branch beside the branch itself; a branch without a row was never used by it.
-- state: `new` (never started), `running`, `hibernated` or `stopped`.
create table sdk_sandbox (
    branch_id text primary key references branch (id) on delete cascade,
    privacy bigint not null,
    tier text not null,
    hibernation_timeout_s bigint not null,
    is_template boolean not null,
    is_default boolean not null,
    state text not null,
    started_at_ms bigint,
    active_at_ms bigint
);

-- Tokens of the SDK's sockets, as hashes. epoch: of the session when the token was made.
create table sdk_token (
    hash bytea primary key,
    branch_id text not null references branch (id) on delete cascade,
    session_id text not null,
    permission text not null,
    epoch bigint not null,
    created_at_ms bigint not null,
    used_at_ms bigint not null
);
create index sdk_token_by_use on sdk_token (branch_id, used_at_ms);

-- Tokens that open a branch's previews, as hashes. prefix: what people know one by.
create table preview_token (
    id text primary key,
    branch_id text not null references branch (id) on delete cascade,
    hash bytea not null unique,
    prefix text not null,
    created_at_ms bigint not null,
    expires_at_ms bigint,
    used_at_ms bigint
);
create index preview_token_by_branch on preview_token (branch_id, created_at_ms, id);

-- Names for templates: a tag is a set of branches (JSON), an alias leads to a tag.
create table sdk_tag (
    id text primary key,
    branches text not null,
    created_at_ms bigint not null
);
create table sdk_alias (
    namespace text not null,
    alias text not null,
    id text not null,
    tag_id text not null references sdk_tag (id) on delete cascade,
    primary key (namespace, alias)
);
