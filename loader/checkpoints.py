"""Checkpoint files: what a file holds, and which dicts of tensors are in it. loader/weights.py chooses among them."""

import hashlib
import struct
from collections import deque
from dataclasses import dataclass

import safetensors
import safetensors.torch
import torch

from loader.pickles import HELP, LISTED, Inert, damaged, is_torch_file, read_torch_file, what_else
from util.errors import DissectionError, first_few

START_BYTES = 64  # of a file, enough to tell its kind
DIGEST_DIGITS = 8
DEEPEST = 8  # containers around a dict of tensors; deeper ones are not looked into
# Of a whole network in a file; one that contains itself has no end.
MOST_MODULES, DEEPEST_MODULE = 20_000, 100


@dataclass(frozen=True)
class Weights:
    """Where a network's weights come from.

    label: short text, such as the file's path. key: which of the file's dicts, dotted, with the prefix of its names, as
    CHECKPOINT_KEY takes it; empty for a bare state dict. digest: the first hex digits of sha256 of the file's bytes, of
    the tensors where there is no file. averaged: whether they are an average over training (EMA, SWA).
    """

    label: str
    key: str
    digest: str
    averaged: bool


@dataclass(frozen=True)
class StateDict:
    """A dict that holds tensors. key: dotted, from the outermost dict of the file; empty for that itself.

    state: {name: value}, in the file's order. metadata: torch's, {module path: dict}; empty where there is none.
    """

    key: str
    state: dict
    metadata: dict


def read_checkpoint(path):
    """Read what a checkpoint file holds, on the CPU, running none of it.

    path: a file of torch.save (see loader.pickles) or of safetensors. Returns (content, digest): content as
    state_dicts() takes it. Raises DissectionError for everything else, and for a file that would run code.
    """
    try:
        with open(path, "rb") as stream:
            start = stream.read(START_BYTES)
            if is_torch_file(start):
                content = read_torch_file(stream, start, path)
            elif start[8:9] == b"{":  # behind the length of its header, eight bytes
                content = _read_safetensors(path)
            else:
                stream.seek(0)
                raise DissectionError(f"{path} {what_else(start, stream)}; {HELP}")
            stream.seek(0)
            return content, hashlib.file_digest(stream, "sha256").hexdigest()[:DIGEST_DIGITS]
    except FileNotFoundError:
        raise DissectionError(f"there is no checkpoint {path}; {HELP}") from None
    except OSError as error:
        raise DissectionError(f"cannot read the checkpoint {path}: {error.strerror}") from error


def _read_safetensors(path):
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, ValueError, KeyError, RuntimeError, struct.error) as error:
        raise damaged(path, error) from error


def digest_of(state):
    """The digest of tensors that come from no file. state: {name: tensor}. Returns text."""
    digest = hashlib.sha256()
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            digest.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:DIGEST_DIGITS]


def state_dicts(content, path):
    """Find every dict of tensors in what a file holds: dicts, lists, whole networks and objects, nested anyhow.

    path: for errors. Returns list of StateDict, outer before inner; one that lies in several places counts under every
    key of the outermost dict. Raises DissectionError when there is none.
    """
    found, seen, waiting = [], set(), deque([(0, "", content)])
    while waiting:
        depth, key, value = waiting.popleft()
        if isinstance(value, Inert):
            if "_modules" in value.attributes:
                found.append(StateDict(key, _state_of_network(value, path), {}))
                continue
            value = value.attributes
        if not isinstance(value, dict | list | tuple) or depth > DEEPEST or (depth > 1 and id(value) in seen):
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            parts = [(str(name), part) for name, part in dict.items(value)]  # not value.items, which a file may set
            if any(isinstance(part, torch.Tensor) for _, part in parts):
                metadata = getattr(value, "_metadata", None)
                found.append(StateDict(key, dict(parts), dict(metadata) if isinstance(metadata, dict) else {}))
        else:
            parts = [(str(place), part) for place, part in enumerate(value)]
        waiting.extend((depth + 1, f"{key}.{name}" if key else name, part) for name, part in parts)
    if not found:
        raise DissectionError(
            f"{path} holds no weights but {kind_of(content)}; expected a state dict, or a dict, list or network that "
            f"holds one; {HELP}"
        )
    return found


def _state_of_network(network, path):
    """The {name: tensor} of a whole network, as nn.Module.state_dict() gives them. network: Inert."""
    state, waiting, modules = {}, [("", network)], 0
    while waiting:
        prefix, module = waiting.pop()
        modules += 1
        endless = modules > MOST_MODULES or prefix.count(".") > DEEPEST_MODULE
        if "_modules" not in module.attributes or endless:
            where = prefix[:200].rstrip(".")
            raise DissectionError(f"{path}: the module {where} of its network cannot be read; {HELP}")
        passing = module.attributes.get("_non_persistent_buffers_set", ())
        for kind in ("_parameters", "_buffers"):
            for name, value in _items(module.attributes.get(kind)):
                if value is not None and name not in passing:
                    state[f"{prefix}{name}"] = value
        children = [(f"{prefix}{name}.", child) for name, child in _items(module.attributes["_modules"])]
        waiting += [(name, child) for name, child in reversed(children) if isinstance(child, Inert)]
    return state


def _items(value):
    return list(dict.items(value)) if isinstance(value, dict) else []


def kind_of(value):
    """What a value of a file is, in words."""
    if isinstance(value, torch.Tensor):
        return "one without numbers, of the meta device" if value.is_meta else f"a {value.layout} {value.dtype} tensor"
    if isinstance(value, dict):
        return f"a dict of {first_few(list(value), LISTED)}" if value else "an empty dict"
    return f"a value of type {type(value).__name__}"
