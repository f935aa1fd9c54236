-- What a document's history lists: who changed how much and when, in runs of positions. It outlives the log's rows.
-- authors: JSON, [{"author", "inserted", "deleted"}].
create table document_change (
    document_id text not null references document (id) on delete cascade,
    first_position bigint not null,
    position bigint not null,
    first_at_ms bigint not null,
    at_ms bigint not null,
    authors text not null,
    primary key (document_id, first_position)
);

-- Of a document that ended: how long its text was, and what its file's bytes were beside it (JSON).
alter table document add column text_bytes bigint;
alter table document add column format text;
create index document_ended on document (branch_id, closed_at_ms);

-- The rows between older snapshots were cut; a snapshot is kept only where every position after it can be read.
delete from document_snapshot where position <
    (select max(position) from document_snapshot as newer where newer.document_id = document_snapshot.document_id);
