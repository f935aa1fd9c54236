"""An SSH server that runs git for users with known keys, and nothing else.

Usage: ssh_server.py FOLDER ADDRESS KEYS HOST_KEY, where KEYS is a folder with USER.pub. Says its port first, then of each
command {"user", "service", "path"}.
"""

import asyncio
import json
import shlex
import sys
from pathlib import Path

import asyncssh

folder, address, keys, host_key = sys.argv[1:]


class Server(asyncssh.SSHServer):
    def begin_auth(self, user):
        return True

    def public_key_auth_supported(self):
        return True

    def validate_public_key(self, user, key):
        known = Path(keys) / f"{user}.pub"
        return known.exists() and asyncssh.read_public_key(known) == key


async def serve(process):
    words = shlex.split(process.command or "")
    if len(words) != 2 or words[0] not in ("git-upload-pack", "git-receive-pack"):
        process.exit(1)
        return
    user = process.get_extra_info("username")
    print(json.dumps({"user": user, "service": words[0], "path": words[1]}), flush=True)
    git = await asyncio.create_subprocess_exec(
        words[0], f"{folder}/{words[1].strip('/')}", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE)
    await process.redirect(stdin=git.stdin, stdout=git.stdout, stderr=git.stderr)
    process.exit(await git.wait())


async def main():
    server = await asyncssh.listen(
        address, 0, server_factory=Server, server_host_keys=[host_key], process_factory=serve, encoding=None)
    print(json.dumps({"port": server.get_port()}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
