-- Replaced files that a process still has open. temp: the name they are kept under beside the workspace; base: their
-- bytes, as far as they are in the document.
create table document_aside (
    document_id text not null references document (id) on delete cascade,
    temp text not null,
    base bytea not null,
    primary key (document_id, temp)
);
