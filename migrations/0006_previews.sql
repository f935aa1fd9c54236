-- Who may look at what a branch's processes serve: `members` or `public`.
alter table branch add column previews text not null default 'members';
