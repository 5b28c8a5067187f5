"""A download must have the hash in its name; from a server on this machine."""
import functools
import hashlib
import http.server
import threading

import pytest
import torch

from mmkd_atsc.checkpoints.download import fetch


class Quiet(http.server.SimpleHTTPRequestHandler):
    requests = []

    def log_message(self, *args):
        self.requests.append(self.path)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder that is served, its address, and an empty hub cache."""
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    (tmp_path / 'www' / 'other').mkdir(parents=True)
    handler = functools.partial(Quiet, directory=str(tmp_path / 'www'))
    httpd = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    Quiet.requests.clear()
    yield tmp_path / 'www', f'http://127.0.0.1:{httpd.server_port}'
    httpd.shutdown()
    httpd.server_close()


def publish(folder, content, name='net'):
    path = folder / f'{name}-{hashlib.sha256(content).hexdigest()[:8]}.pth'
    path.write_bytes(content)
    return path.name


def test_a_file_is_fetched_once_and_verified(server):
    folder, url = server
    name = publish(folder, b'weights')
    assert fetch(f'{url}/{name}').read_bytes() == b'weights'
    local = fetch(f'{url}/{name}?raw=true')
    assert local.read_bytes() == b'weights' and len(Quiet.requests) == 1
    local.write_bytes(b'weight')  # a damaged copy in the cache
    with pytest.raises(ValueError, match=f'{local} is damaged or another file'):
        fetch(f'{url}/{name}')


def test_another_content_is_refused_and_not_kept(server, tmp_path):
    folder, url = server
    name = publish(folder, b'weights')
    (folder / name).write_bytes(b'something else')
    with pytest.raises(ValueError, match=rf'^{url}/{name}: could not be downloaded \(invalid hash') as error:
        fetch(f'{url}/{name}')
    assert '\n' not in str(error.value) and not [path for path in (tmp_path / 'hub').rglob('*') if path.is_file()]
    (folder / name).write_bytes(b'weights')  # the next time
    assert fetch(f'{url}/{name}').read_bytes() == b'weights'


def test_names_without_a_hash_are_told_apart_by_their_address(server):
    folder, url = server
    (folder / 'teacher.pth').write_bytes(b'one')
    (folder / 'other' / 'teacher.pth').write_bytes(b'another')
    assert fetch(f'{url}/teacher.pth').read_bytes() == b'one'
    assert fetch(f'{url}/other/teacher.pth').read_bytes() == b'another'
    with pytest.raises(ValueError, match=r'gone.pth: could not be downloaded \(.*404'):
        fetch(f'{url}/gone.pth')


def test_files_are_read_where_they_are(tmp_path):
    for name in 'mobilenet-0.5.pth', 'swin-beef.pth':  # which only look like names with a hash
        (tmp_path / name).write_bytes(b'weights')
        assert fetch((tmp_path / name).as_uri()) == tmp_path / name
    name = publish(tmp_path, b'weights', 'a net')
    assert fetch((tmp_path / name).as_uri()) == tmp_path / name
    (tmp_path / name).write_bytes(b'other')
    with pytest.raises(ValueError, match='SHA-256'):
        fetch((tmp_path / name).as_uri())
    with pytest.raises(FileNotFoundError, match='gone.pth: no such file'):
        fetch((tmp_path / 'gone.pth').as_uri())
