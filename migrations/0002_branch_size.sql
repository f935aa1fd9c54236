-- What a branch's files took when they were last measured.
alter table branch add column size_bytes bigint;
alter table branch add column measured_at_ms bigint;
create index session_by_age on session (branch_id, created_at_ms, id);
create index link_by_branch on link (branch_id, created_at_ms, id);
