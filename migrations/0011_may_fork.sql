-- Whether a link's sessions, and a session, may make a copy of the branch that they may write to.
alter table link add column may_fork boolean not null default false;
alter table session add column may_fork boolean not null default false;
