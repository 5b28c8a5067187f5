"""The safetensors format: 8 bytes with the length of a JSON header, the header, the tensors' bytes. No code."""
import json
import math
from pathlib import Path
from typing import Any, Dict, List, Tuple

import torch
from torch import Tensor

DTYPES = dict(F64=torch.float64, F32=torch.float32, F16=torch.float16, BF16=torch.bfloat16, I64=torch.int64,
              I32=torch.int32, I16=torch.int16, I8=torch.int8, U8=torch.uint8, BOOL=torch.bool)
MOST_HEADER = 100_000_000  # as in the format's own library


def is_safetensors(path: Path) -> bool:
    """By the file's name or, where that says something else, by its ninth byte, with which no pickle or zip goes on."""
    with path.open('rb') as file:
        return path.suffix == '.safetensors' or file.read(9)[8:] == b'{'


def read_safetensors(path: Path) -> Dict[str, Tensor]:
    """All tensors of a file, which must say exactly where each of its bytes belongs; anything else is a ValueError."""
    size = path.stat().st_size
    with path.open('rb') as file:
        length = int.from_bytes(file.read(8), 'little')
        if size < 8 or length > min(size - 8, MOST_HEADER):
            raise ValueError('is truncated or not a safetensors file')
        header = _parse(file.read(length))
        data = bytearray(file.read())
    tensors, ranges = {}, []
    for name, entry in header.items():
        if name == '__metadata__':
            continue
        dtype, shape, (begin, end) = _check_entry(name, entry)
        ranges.append((begin, end, name))
        if end > len(data) or end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f'safetensors: {name} has shape {shape} in bytes {begin} to {end} of {len(data)}')
        flat = torch.frombuffer(data, dtype=torch.uint8, count=end - begin, offset=begin) if end > begin else \
            torch.empty(0, dtype=torch.uint8)
        tensors[name] = flat.clone().view(dtype).reshape(shape)  # a clone begins where its type may
    _check_ranges(ranges, len(data))
    return tensors


def _parse(text: bytes) -> Dict[str, Any]:
    def once(pairs: List[Tuple[str, Any]]) -> dict:
        if len(dict(pairs)) < len(pairs):
            raise ValueError('a name occurs twice')
        return dict(pairs)

    try:
        header = json.loads(text.decode(), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'safetensors: the header cannot be read ({error})') from None
    if not isinstance(header, dict):
        raise ValueError(f'safetensors: the header is a {type(header).__name__}, not a dictionary')
    return header


def _check_entry(name: str, entry: Any) -> Tuple[torch.dtype, List[int], List[int]]:
    entry = entry if isinstance(entry, dict) else {}
    shape, offsets = entry.get('shape'), entry.get('data_offsets')
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or any(type(number) is not int or number < 0 for number in numbers):
            raise ValueError(f'safetensors: {name} needs dtype, shape and data_offsets')
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f'safetensors: {name} has data_offsets={offsets}')
    if entry.get('dtype') not in DTYPES:
        raise ValueError(f'safetensors: {name} has dtype={entry.get("dtype")!r}, not one of {", ".join(DTYPES)}')
    return DTYPES[entry['dtype']], shape, offsets


def _check_ranges(ranges: List[Tuple[int, int, str]], size: int) -> None:
    """Refuses bytes that belong to two tensors, or to none."""
    position = 0
    for begin, end, name in sorted(ranges):
        if begin != position:
            raise ValueError(f'safetensors: {name} begins at byte {begin}, the tensor before it ends at {position}')
        position = end
    if position != size:
        raise ValueError(f'safetensors: {size} bytes of data, of which {position} belong to tensors')
