-- A rename under way: where the document's file is being moved. Settled at the branch's next start after a crash.
alter table document add column moving_to text;
