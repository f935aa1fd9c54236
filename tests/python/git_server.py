"""The second git server: dulwich, which is git without git, behind Basic auth with a token for each user.

Usage: git_server.py FOLDER ADDRESS. Commands, a line of JSON in each: {"tokens": {USER: TOKEN}}. Says its port first, then
of each request that it served {"user", "service", "path"}.
"""

import base64
import json
import sys
import threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from dulwich.repo import Repo
from dulwich.server import Backend
from dulwich.web import make_wsgi_chain

folder, address = sys.argv[1:]
tokens = {}


class Repositories(Backend):
    def open_repository(self, path):
        name = path.decode() if isinstance(path, bytes) else path
        return Repo(f"{folder}/{name.strip('/')}")


git = make_wsgi_chain(Repositories())


def guarded(environ, start_response):
    kind, _, sent = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    user, _, token = base64.b64decode(sent).decode().partition(":") if kind == "Basic" else ("", "", "")
    if not user or tokens.get(user) != token:
        start_response("401 Unauthorized", [("WWW-Authenticate", 'Basic realm="dulwich"'), ("Content-Length", "0")])
        return [b""]
    service = environ["PATH_INFO"].rpartition("/")[2] + environ.get("QUERY_STRING", "").removeprefix("service=")
    # In one piece: requests come at once.
    sys.stdout.write(json.dumps({"user": user, "service": service, "path": environ["PATH_INFO"]}) + "\n")
    sys.stdout.flush()
    return git(environ, start_response)


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Handler(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def listen():
    for line in sys.stdin:
        tokens.clear()
        tokens.update(json.loads(line)["tokens"])
    server.shutdown()


server = make_server(address, 0, guarded, server_class=Server, handler_class=Handler)
print(json.dumps({"port": server.server_port}), flush=True)
threading.Thread(target=listen, daemon=True).start()
server.serve_forever()
