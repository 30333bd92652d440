import hashlib
import os
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from prkd_mm.datasets.prepare import fetch

BODY = bytes(range(256)) * 2000
MD5 = hashlib.md5(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers['Range']
        server.asked.append(asked)
        start = int(re.match(r'bytes=(\d+)-', asked)[1])
        if self.path != '/set.zip':
            return self.send_error(404)
        if server.ranges and start >= len(server.body):
            return self.send_error(416)
        body = server.body[start:] if server.ranges else server.body
        self.send_response(206 if server.ranges else 200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if len(server.asked) <= server.cuts:
            body = body[: len(body) // 3]  # and the connection is closed
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    """Server of BODY that closes the first ``cuts`` connections after a third."""
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.setattr(fetch.time, 'sleep', lambda seconds: None)
    with ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        server.body, server.cuts, server.ranges = BODY, 0, True
        server.asked = []
        server.url = f'http://127.0.0.1:{server.server_port}/set.zip'
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / 'set.zip')


def arrived(path):
    with open(path, 'rb') as f:
        return f.read()


def test_a_lost_connection_is_resumed(server, path):
    server.cuts = 2
    fetch.download(server.url, path, MD5)
    first = len(BODY) // 3
    second = first + (len(BODY) - first) // 3
    assert server.asked == [f'bytes={n}-' for n in (0, first, second)]
    assert arrived(path) == BODY
    assert os.listdir(os.path.dirname(path)) == ['set.zip']


def test_a_server_without_ranges_starts_over(server, path):
    server.cuts, server.ranges = 1, False
    fetch.download(server.url, path, MD5)
    assert len(server.asked) == 2
    assert arrived(path) == BODY


def test_the_partial_file_of_an_earlier_run_is_used(server, path):
    with open(f'{path}.part', 'wb') as f:
        f.write(BODY[:1000])
    fetch.download(server.url, path, MD5)
    assert server.asked == ['bytes=1000-']
    assert arrived(path) == BODY


def test_a_complete_partial_file_is_only_verified(server, path):
    with open(f'{path}.part', 'wb') as f:
        f.write(BODY)
    fetch.download(server.url, path, MD5)
    assert server.asked == [f'bytes={len(BODY)}-']
    assert arrived(path) == BODY


def test_a_failed_download_keeps_the_received_part(server, path):
    server.cuts = 99
    with pytest.raises(ConnectionError) as e:
        fetch.download(server.url, path, MD5)
    assert len(server.asked) == fetch.ATTEMPTS
    assert server.url in str(e.value) and f'{path}.part' in str(e.value)
    part = arrived(f'{path}.part')
    assert len(part) > len(BODY) // 2 and BODY.startswith(part)
    server.cuts = 0
    fetch.download(server.url, path, MD5)
    assert server.asked[-1] == f'bytes={len(part)}-'


def test_a_file_with_a_wrong_checksum_is_removed(server, path):
    with pytest.raises(ValueError) as e:
        fetch.download(server.url, path, '0' * 32)
    assert MD5 in str(e.value) and '0' * 32 in str(e.value)
    assert os.listdir(os.path.dirname(path)) == []


def test_a_missing_file_is_requested_only_once(server, path):
    with pytest.raises(ConnectionError, match='404'):
        fetch.download(server.url + 'x', path, MD5)
    assert len(server.asked) == 1
    assert os.listdir(os.path.dirname(path)) == []


def test_an_unreachable_server_is_named(server, path):
    server.shutdown()
    server.server_close()
    with pytest.raises(ConnectionError, match=server.url):
        fetch.download(server.url, path, MD5)


def test_a_full_disk_is_found_before_the_download(server, path, monkeypatch):
    usage = shutil.disk_usage(os.path.dirname(path))._replace(free=10**5)
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage)
    with pytest.raises(OSError, match=f'{server.url} needs 1 MB, but 0 MB are free'):
        fetch.download(server.url, path, MD5)
    assert os.listdir(os.path.dirname(path)) == []
