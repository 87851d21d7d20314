"""A server on this machine that speaks enough of the hub's protocol for its real client."""

import hashlib
import http.server
import json
import threading

COMMITS = {'main': 'a' * 40, 'v1': 'b' * 40}


class Hub:
    """Files of owner/repo by commit and name, and what went over the wire."""

    def __init__(self):
        self.files = {}
        self.requests = []
        self.failures = []  # statuses to answer with before anything else
        self.token = None  # without it the repository is not shown
        self.cut_after = None  # drop the connection after so many bytes, once
        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), _handler(self))
        self.endpoint = f'http://127.0.0.1:{self.server.server_port}'
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def _handler(hub):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def log_message(self, *args):
            pass

        def do_HEAD(self):
            self._answer(body=False)

        def do_GET(self):
            self._answer(body=True)

        def _error(self, status, code=None):
            self.send_response(status)
            if code:
                self.send_header('X-Error-Code', code)
            self.send_header('Content-Length', '0')
            self.end_headers()

        def _answer(self, body):
            hub.requests.append((self.command, self.path, self.headers.get('Range')))
            if hub.failures:
                return self._error(hub.failures.pop(0))
            if hub.token and self.headers.get('Authorization') != f'Bearer {hub.token}':
                return self._error(401, 'RepoNotFound')
            path = self.path.split('?')[0]
            if path.startswith('/cdn/'):
                commit, name = path.removeprefix('/cdn/').split('/', 1)
                return self._send(commit, hub.files[commit, name], body)
            if path == '/api/models/owner/repo':
                return self._info()
            # /owner/repo/resolve/revision/file
            _, owner, _, *rest = path.split('/', 5)
            if owner != 'owner':
                return self._error(401, 'RepoNotFound')
            _, revision, name = rest
            commit = COMMITS.get(revision, revision)
            if commit not in COMMITS.values():
                return self._error(404, 'RevisionNotFound')
            content = hub.files.get((commit, name))
            if content is None:
                return self._error(404, 'EntryNotFound')
            self.send_response(302)
            self.send_header('Location', f'/cdn/{commit}/{name}')
            self._meta(commit, content)
            self.send_header('X-Linked-Size', str(len(content)))
            self.send_header('X-Linked-Etag', self._etag(content))
            self.send_header('Content-Length', '0')
            self.end_headers()

        def _info(self):
            commit = COMMITS['main']
            names = [dict(rfilename=name) for at, name in hub.files if at == commit]
            data = json.dumps(dict(id='owner/repo', sha=commit, siblings=names)).encode()
            self.send_response(200)
            self.send_header('Content-Type', 'application/json')
            self.send_header('Content-Length', str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        @staticmethod
        def _etag(content):
            return f'"{hashlib.sha256(content).hexdigest()}"'

        def _meta(self, commit, content):
            self.send_header('X-Repo-Commit', commit)
            self.send_header('ETag', self._etag(content))
            self.send_header('Accept-Ranges', 'bytes')

        def _send(self, commit, content, body):
            start = 0
            if self.headers.get('Range'):
                start = int(self.headers['Range'].removeprefix('bytes=').split('-')[0])
                self.send_response(206)
                self.send_header(
                    'Content-Range', f'bytes {start}-{len(content) - 1}/{len(content)}'
                )
            else:
                self.send_response(200)
            self._meta(commit, content)
            self.send_header('Content-Length', str(len(content) - start))
            self.end_headers()
            if body:
                end = len(content)
                if hub.cut_after is not None:
                    end, hub.cut_after = hub.cut_after, None
                    self.close_connection = True
                self.wfile.write(content[start:end])

    return Handler
