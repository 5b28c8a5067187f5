"""Files from elsewhere: fetched once, and none is taken whose content is not what its name says."""
import hashlib
import re
from pathlib import Path
from typing import Optional
from urllib.parse import unquote, urlparse

import torch

# `resnet34_8xb32_in1k_20210831-f257d4e6.pth`: how OpenMMLab, torchvision and timm publish the beginning of the SHA-256.
# Not torch.hub's own pattern, which takes any hexadecimal ending for one: the 0 of `width-0.5.pth` too.
HASH_IN_NAME = re.compile(r'-([0-9a-f]{8,64})(?:\.[a-z]+)+$')
SCHEMES = ('http', 'https', 'file')


def is_url(path: object) -> bool:
    """Whether a checkpoint is named by its address.

    >>> is_url('https://host/net.pth'), is_url('file:///data/net.pth'), is_url('work_dirs/net.pth')
    (True, True, False)
    """
    return urlparse(str(path)).scheme in SCHEMES


def fetch(url: str) -> Path:
    """The local copy of the file at a URL: downloaded to torch's hub cache, or found there; verified each time.

    A name with a hash stands for one content, wherever it comes from. One without does not, so such a file is kept
    apart from those of other addresses.

    Args:
        url: ``http(s)://`` or ``file://``; the latter is read where it is.
    """
    address = urlparse(url)
    name = Path(unquote(address.path)).name
    if address.scheme == 'file':
        local = Path(unquote(address.path))
        if not local.is_file():
            raise FileNotFoundError(f'{url}: no such file')
    else:
        local = Path(torch.hub.get_dir()) / 'checkpoints'
        if not HASH_IN_NAME.search(name):
            local /= hashlib.sha256(url.encode()).hexdigest()[:12]
        local /= name
        if not local.is_file():
            local.parent.mkdir(parents=True, exist_ok=True)
            try:
                # It writes aside and moves: another process, or an interrupted one, leaves no half of a file.
                torch.hub.download_url_to_file(url, str(local), progress=False)
            except (OSError, RuntimeError, ValueError) as error:
                raise ValueError(f'{url}: could not be downloaded ({error})') from None
            try:
                verify(local, url)
            except ValueError:
                local.unlink()  # it may be right the next time
                raise
            return local
    verify(local, url)
    return local


def verify(path: Path, origin: Optional[str] = None) -> None:
    """Refuses a file whose name ends in a hash that its content does not have; other names say nothing.

    Args:
        path: The file.
        origin: Where it came from, for the message. None: the file itself.
    """
    found = HASH_IN_NAME.search(path.name)
    if not found:
        return
    wanted, digest = found.group(1), sha256(path)
    if not digest.startswith(wanted):
        where = '' if origin is None else f' (in {path})'
        raise ValueError(f'{origin or path}: its SHA-256 begins with {digest[:len(wanted)]} and not, as its name says, '
                         f'with {wanted}{where}: it is damaged or another file')


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()
