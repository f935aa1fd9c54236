"""What another implementation of git (libgit2) reads from a repository, as JSON.

    repository.py FOLDER diff OLD NEW | staged | log REVISION | blame PATH | tree REVISION | marks REVISION PATTERN | holds WORD...

`tree`: of each file its mode and its bytes, as base64. `marks`: of each commit what in its files' texts matches. `holds`: where one
of the words is: in which objects, packed or not, and in which files of the repository.
"""
import base64
import json
import pathlib
import re
import sys

import pygit2

# Its files belong to a session.
pygit2.option(pygit2.enums.Option.SET_OWNER_VALIDATION, 0)
folder, what, *arguments = sys.argv[1:]
repository = pygit2.Repository(folder)


def text(raw):
    return raw.decode(errors="replace")


def file(patch):
    delta = patch.delta
    sides = [delta.old_file, delta.new_file]
    modes = [f"{int(side.mode):06o}" if int(side.mode) else None for side in sides]
    lines = [[line.origin, text(line.raw_content).rstrip("\n")] for hunk in patch.hunks for line in hunk.lines if line.origin in "+-"]
    change = {"A": "added", "M": "modified", "D": "deleted", "R": "renamed", "T": "type_changed"}[delta.status_char()]
    return {
        "path": delta.new_file.path, "from": delta.old_file.path if change == "renamed" else None, "change": change,
        "modes": modes, "is_binary": delta.is_binary, "lines": lines,
    }


def signature(by):
    return {"name": by.name, "email": by.email, "at_ms": by.time * 1000}


def commit(one):
    trailers = [line[len("Co-authored-by: "):] for line in one.message.splitlines() if line.startswith("Co-authored-by: ")]
    return {
        "hash": str(one.id), "parents": [str(parent) for parent in one.parent_ids], "author": signature(one.author),
        "committer": signature(one.committer), "message": one.message, "co_authors": trailers,
    }


def differences(diff):
    diff.find_similar()
    return sorted((file(patch) for patch in diff), key=lambda one: one["path"])


def files(tree, folder=""):
    for entry in tree:
        if entry.type == pygit2.enums.ObjectType.TREE:
            yield from files(entry, f"{folder}{entry.name}/")
        else:
            yield folder + entry.name, entry


def marks(one, pattern):
    return sorted({mark for _, blob in files(one.tree) for mark in re.findall(pattern, text(blob.data))})


def holders(words):
    for each in repository.odb:
        raw = repository.get(each).read_raw()
        yield from ([str(each), word] for word in words if word.encode() in raw)
    for path in pathlib.Path(repository.path).rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            yield from ([str(path), word] for word in words if word.encode() in raw or word in str(path))


if what == "diff":
    old, new = (repository.revparse_single(one).peel(pygit2.Tree) for one in arguments)
    told = differences(old.diff_to_tree(new, flags=pygit2.enums.DiffOption.INCLUDE_TYPECHANGE))
elif what == "staged":
    tree = repository.head.peel(pygit2.Tree)
    told = differences(tree.diff_to_index(repository.index, flags=pygit2.enums.DiffOption.INCLUDE_TYPECHANGE))
elif what == "log":
    told = [commit(one) for one in repository.walk(repository.revparse_single(arguments[0]).id)]
elif what == "tree":
    tree = repository.revparse_single(arguments[0]).peel(pygit2.Tree)
    told = {path: [f"{entry.filemode:06o}", base64.b64encode(entry.data).decode()] for path, entry in files(tree)}
elif what == "marks":
    told = {str(one.id): marks(one, arguments[1]) for one in repository.walk(repository.revparse_single(arguments[0]).id)}
elif what == "holds":
    told = list(holders(arguments))
else:
    told = [[hunk.final_start_line_number, hunk.lines_in_hunk, str(hunk.final_commit_id)] for hunk in repository.blame(arguments[0])]
print(json.dumps(told))
