"""Downloads checkpoints once, and refuses a file whose content is not what the hash in its name says."""
import hashlib
import re
from pathlib import Path
from urllib.parse import unquote, urlparse

import torch

# `resnet34_8xb32_in1k_20210831-f257d4e6.pth`: how OpenMMLab, torchvision and timm publish the beginning of the SHA-256.
# Not torch.hub's own pattern, which takes any hexadecimal ending for one: the 0 of `width-0.5.pth` too.
HASH_IN_NAME = re.compile(r'-([0-9a-f]{8,64})(?:\.[a-z]+)+$')


def is_url(path: object) -> bool:
    return urlparse(str(path)).scheme in ('http', 'https', 'file')


def fetch(url: str) -> Path:
    """The local copy of the file at a URL, in torch's hub cache; a ``file://`` is read where it is.

    The hash in a name is verified each time. Files without one are kept apart by their address.
    """
    address = urlparse(url)
    local = Path(unquote(address.path))
    found = HASH_IN_NAME.search(local.name)
    wanted = found.group(1) if found else None
    if address.scheme != 'file':
        folder = '' if wanted else hashlib.sha256(url.encode()).hexdigest()[:12]
        local = Path(torch.hub.get_dir(), 'checkpoints', folder, local.name)
        if not local.is_file():
            local.parent.mkdir(parents=True, exist_ok=True)
            try:
                torch.hub.download_url_to_file(url, str(local), wanted, progress=False)
            except (OSError, RuntimeError, ValueError) as error:
                raise ValueError(f'{url}: could not be downloaded ({error}); it can be put at {local}') from None
    if not local.is_file():
        raise FileNotFoundError(f'{url}: no such file')
    if wanted and not hashlib.sha256(local.read_bytes()).hexdigest().startswith(wanted):
        raise ValueError(f'{url}: {local} is damaged or another file, its SHA-256 does not begin with {wanted}')
    return local
