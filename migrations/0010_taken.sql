-- States of a document from which somebody outside took what sessions had typed, newest first: who typed it is looked up
-- there should it come back. JSON, [{"document", "position"}].
alter table document add column taken text not null default '[]';
