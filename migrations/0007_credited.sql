-- Whether commits of others name this session as one that typed some of what they hold.
alter table session add column credited boolean not null default true;
