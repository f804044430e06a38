"""Checkpoint files: read without running any code that they hold, and loaded with every key matched.

A checkpoint is a pickle, and a pickle can name any function of this computer to be called while it is read. So a file
is first walked through opcode by opcode without being executed (pickletools), then read by torch's weights-only
unpickler, which builds tensors and plain containers and nothing else. Other classes that turn up in honest files
(a whole torchvision network, a numpy scalar beside the weights) are replaced by inert stand-ins that only keep their
attributes; a file that names anything else is refused. Nothing here ever loads with weights_only=False.
"""

import io
import math
import pickle
import pickletools
import shutil
import struct
import warnings
import zipfile
from collections import OrderedDict

import torch

from util.errors import DissectionError

HELP = "model/README.md and docs/networks.md say which file each task needs and how to get it"
LISTED = 4  # names that an error shows of each kind

# Where training scripts put the weights inside the dict that they save.
STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model")

# Globals that a file may name besides those torch's weights-only unpickler knows. None is imported or called: a
# stand-in takes its place. The first four prefixes and functools.partial make up whole networks; the others lie
# beside the weights in the dict of a training script (optimizer, best score, command line).
INERT_PREFIXES = ("torch.nn.", "torch._C._nn.", "torchvision.", "facenet_pytorch.", "torch.optim.", "numpy.")
INERT_NAMES = ("functools.partial", "argparse.Namespace")

# Globals that torch's weights-only unpickler knows as plain data. Names under torch. are left to it altogether:
# it has its own list and refuses the others.
PLAIN_NAMES = ("collections.OrderedDict", "collections.Counter", "_codecs.encode") + tuple(
    f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("set", "bytearray", "complex")
)

# Files of PyTorch before 1.6 begin with this pickled magic number, after the bytes for the pickle protocol. Five
# pickles precede the raw storages: magic number, protocol version, facts about the system, the object itself, the
# storages' keys.
LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
LEGACY_PICKLES = 5
ZIP_START = b"PK\x03\x04"
START_BYTES = 64  # of a file, enough to tell its kind

# Opcodes of Python 2 that torch's weights-only unpickler lacks, though they only spell strings and numbers.
PYTHON2_OPCODES = {"BINSTRING", "STRING", "INT", "LONG", "LONG4"}
# Opcodes that call a global which can't be told from the opcode itself; torch.save doesn't write them by default.
HIDDEN_GLOBAL_OPCODES = {"STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}

# What pickletools raises for bytes that are no pickle.
NO_PICKLE = (ValueError, OverflowError, MemoryError, struct.error)


class _Inert:
    """Stands in for an object of a file: takes any arguments, does nothing, keeps the attributes it is given."""

    def __new__(cls, *arguments, **options):
        stand_in = super().__new__(cls)
        stand_in.attributes = {}
        return stand_in

    def __setstate__(self, state):
        self.attributes = state if isinstance(state, dict) else {}


def read_state_dict(path):
    """Read the weights that a checkpoint file holds, on the CPU.

    path: a file of torch.save, of any version since 0.2, under Python 2 or 3, that holds a bare state dict, a dict
    with one under STATE_DICT_KEYS, or (since PyTorch 1.6) a whole network of torch.nn, torchvision or facenet_pytorch
    classes.
    Returns OrderedDict name -> tensor in the file's order, with torch's version metadata when the file has it.
    Raises DissectionError for everything else, and for a file that would run code.
    """
    try:
        stream = open(path, "rb")  # noqa: SIM115 - the with below closes it; only opening is tried here
    except FileNotFoundError:
        raise DissectionError(f"there is no checkpoint {path}; {HELP}") from None
    except OSError as error:
        raise DissectionError(f"cannot read the checkpoint {path}: {error.strerror}") from error
    with stream:
        start = stream.read(START_BYTES)
        names, opcodes = _inspect(stream, start, path)
        _refuse_foreign(names, opcodes, path)
        stream.seek(0)
        respell = opcodes & PYTHON2_OPCODES and not start.startswith(ZIP_START)
        content = _unpickle(_respelled(stream) if respell else stream, names, path)
    state = _find_state_dict(content, path)
    for name, value in state.items():
        if not isinstance(value, torch.Tensor) or value.layout is not torch.strided or value.is_quantized:
            kind = _kind(value) if not isinstance(value, torch.Tensor) else f"a {value.layout} {value.dtype} tensor"
            raise DissectionError(f"{path}: {name} is no plain tensor but {kind}; {HELP}")
    return state


def load_checkpoint(module, path, network, takes_num_classes=False):
    """Load a checkpoint file into a network, every key matched. See read_state_dict and fit_weights."""
    fit_weights(module, read_state_dict(path), path, network, takes_num_classes)


def fit_weights(module, state, source, network, takes_num_classes=False):
    """Load weights into a network; every name and every shape must match.

    module: nn.Module, changed in place. state: dict name -> tensor, with or without DataParallel's 'module.' before
    every name; other float types are converted to the network's. source: where the weights come from, network: what
    the module is, both for errors. takes_num_classes: whether the user can mend a class count by NUM_CLASSES.
    A missing num_batches_tracked is no fault: files before PyTorch 0.4.1 have none, and only training reads it.
    Raises DissectionError that lists what is missing, unexpected, of another shape, of integer type or not finite.
    """
    own = module.state_dict()
    state = _without_parallel_prefix(state, own)
    common = [name for name in state if name in own]
    for name in common:
        if own[name].is_floating_point() and not state[name].is_floating_point():
            raise DissectionError(f"{source}: {name} is {state[name].dtype}, the network needs floats; {HELP}")
    misshapen = [name for name in common if not _same_shape(state[name], own[name])]
    fitting = OrderedDict((name, value) for name, value in state.items() if name not in misshapen)
    fitting._metadata = getattr(state, "_metadata", {})
    try:
        result = module.load_state_dict(fitting, strict=False)
    except (RuntimeError, AssertionError) as error:  # a module's own conversion of old files can fail
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DissectionError(f"{source} cannot be loaded into {network}: {reason}; {HELP}") from error
    needed = [name for name in own if not name.endswith("num_batches_tracked")]
    missing = [name for name in result.missing_keys if name in needed and name not in misshapen]
    if missing or misshapen or result.unexpected_keys:
        shapes = {name: (tuple(state[name].shape), tuple(own[name].shape)) for name in misshapen}
        raise DissectionError(
            _misfit(source, network, missing, result.unexpected_keys, shapes, len(needed), takes_num_classes)
        )
    _refuse_not_finite(module, source)


def _inspect(stream, start, path):
    """Walk through a checkpoint's pickles without executing them.

    stream: binary file; start: its first bytes. Returns (set of dotted global names, set of opcode names). Raises
    DissectionError for a file that torch.save did not write and for a damaged one.
    """
    stream.seek(0)
    if start.startswith(ZIP_START):
        pickles, count = io.BytesIO(_pickle_of_archive(stream, path)), 1
    elif LEGACY_MAGIC in start:
        pickles, count = stream, LEGACY_PICKLES
    else:
        raise DissectionError(f"{path} {_what_else(start, stream)}; {HELP}")
    try:
        return _scan(pickles, count)
    except NO_PICKLE as error:
        raise _damaged(path, error) from error


def _scan(stream, count=1):
    """Walk through count pickles of a stream. Returns (dotted global names, opcode names). Raises NO_PICKLE errors."""
    names, opcodes = set(), set()
    for _ in range(count):
        for opcode, argument, _ in pickletools.genops(stream):
            opcodes.add(opcode.name)
            if opcode.name in ("GLOBAL", "INST"):
                names.add(argument.replace(" ", "."))
    return names, opcodes


def _what_else(start, stream):
    """Say what a file is that torch.save did not write. start: its first bytes; stream: at its start."""
    if not start:
        return "is an empty file"
    if start.lstrip().startswith(b"<"):
        return "is a web page and no checkpoint: what was saved is the page around the download"
    if start.startswith(b"version https://git-lfs"):
        return "is only the Git LFS pointer of a checkpoint: fetch the file itself with 'git lfs pull'"
    try:
        names, _ = _scan(stream)
    except NO_PICKLE:
        return f"is no PyTorch checkpoint: it begins with {start[:12]!r}"
    named = f" that names {_listed(sorted(names))}" if names else ""
    return f"is a bare pickle{named} and no file of torch.save: refused, because reading it could run code"


def _pickle_of_archive(stream, path):
    """The bytes of data.pkl in a zip checkpoint. Raises DissectionError for other archives and for damaged ones."""
    try:
        archive = zipfile.ZipFile(stream)
        members = archive.namelist()
        found = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
        if any(name.endswith("/constants.pkl") for name in members):
            raise DissectionError(f"{path} is a TorchScript program: save network.state_dict() by torch.save instead")
        if len(found) != 1:
            raise DissectionError(f"{path} is a zip archive of {_listed(members)} and no checkpoint; {HELP}")
        # torch doesn't compare checksums, so a flipped bit in the weights would go unnoticed.
        broken = archive.testzip()
        if broken is not None:
            raise DissectionError(f"{path} is damaged: {broken} fails its checksum; get the file again; {HELP}")
        return archive.read(found[0])
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError, *NO_PICKLE) as error:
        raise _damaged(path, error) from error


def _is_inert(name):
    return name.startswith(INERT_PREFIXES) or name in INERT_NAMES


def _refuse_foreign(names, opcodes, path):
    foreign = sorted(
        name for name in names if not (_is_inert(name) or name in PLAIN_NAMES or name.startswith("torch."))
    )
    if foreign:
        raise _refused(path, f"it names {_listed(foreign)}")
    if opcodes & HIDDEN_GLOBAL_OPCODES:
        raise _refused(path, "it is written in a pickle protocol above 3, which hides what it names")


def _refused(path, reason):
    return DissectionError(
        f"{path} is refused: {reason}. A checkpoint may hold plain tensors alone, because reading more could run code. "
        "If it is your own, load it in your program and save the weights: torch.save(network.state_dict(), path)"
    )


def _damaged(path, error):
    reason = str(error) or type(error).__name__
    return DissectionError(f"{path} is damaged or cut short ({reason}): get the file again; {HELP}")


def _unpickle(stream, names, path):
    """Read a checkpoint's object with torch's weights-only unpickler. Returns it; raises DissectionError."""
    try:
        stand_ins = [(type(name, (_Inert,), {}), name) for name in sorted(names) if _is_inert(name)]
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
            # torch warns that an encoding has no effect here (on Python 2's byte strings it has), and of protocol 3.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(stream, map_location="cpu", weights_only=True, encoding="latin1")
    except pickle.UnpicklingError as error:
        reason = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0].partition(". Please")[0]
        if "persistent_load" in reason:
            raise _refused(path, "it is a whole network in the format before PyTorch 1.6") from error
        raise _refused(path, f"torch says {reason!r}") from error
    except Exception as error:  # a damaged file can fail anywhere, with any type
        raise _damaged(path, error) from error


def _respelled(stream):
    """Copy a legacy file with PYTHON2_OPCODES written as torch's weights-only unpickler reads them.

    stream: binary file at its start. Returns BytesIO at its start. Byte strings become text by Latin-1, which has a
    character for every byte; numbers become LONG1.
    """
    copy = io.BytesIO()
    for _ in range(LEGACY_PICKLES):
        start = stream.tell()
        operations = list(pickletools.genops(stream))
        end = stream.tell()
        stream.seek(start)
        content = stream.read(end - start)
        ends = [position for _, _, position in operations[1:]] + [end]
        for (opcode, argument, position), stop in zip(operations, ends, strict=True):
            if opcode.name in PYTHON2_OPCODES:
                copy.write(_plain_opcode(argument))
            else:
                copy.write(content[position - start : stop - start])
    shutil.copyfileobj(stream, copy)
    copy.seek(0)
    return copy


def _plain_opcode(value):
    """The bytes that put a str, bool or int on the unpickler's stack, in opcodes it knows."""
    if isinstance(value, str):
        text = value.encode("utf-8")
        return pickle.BINUNICODE + struct.pack("<I", len(text)) + text
    if isinstance(value, bool):
        return pickle.NEWTRUE if value else pickle.NEWFALSE
    digits = pickle.encode_long(value)
    return pickle.LONG1 + struct.pack("<B", len(digits)) + digits


def _find_state_dict(content, path):
    """The state dict in what a file holds, as OrderedDict. Raises DissectionError when there is none."""
    candidates = [content]
    if isinstance(content, dict):
        candidates = [content[key] for key in STATE_DICT_KEYS if key in content] + candidates
    for candidate in candidates:
        if isinstance(candidate, _Inert) and "_modules" in candidate.attributes:
            return OrderedDict(_weights_of_network(candidate, path))
        if isinstance(candidate, dict) and any(isinstance(value, torch.Tensor) for value in candidate.values()):
            state = OrderedDict((str(name), value) for name, value in candidate.items())
            state._metadata = getattr(candidate, "_metadata", {})
            return state
    raise DissectionError(
        f"{path} holds no weights but {_kind(content)}; expected a state dict, or a dict with one under "
        f"{', '.join(STATE_DICT_KEYS)}; {HELP}"
    )


def _weights_of_network(network, path, prefix=""):
    """The (name, tensor) pairs of a whole network, as nn.Module.state_dict() gives them. network: _Inert."""
    attributes = network.attributes
    if "_modules" not in attributes:
        raise DissectionError(f"{path}: the module {prefix.rstrip('.')} of its network cannot be read; {HELP}")
    passing = attributes.get("_non_persistent_buffers_set", ())
    for kind in ("_parameters", "_buffers"):
        for name, value in attributes.get(kind, {}).items():
            if value is not None and name not in passing:
                yield prefix + name, value
    for name, child in attributes["_modules"].items():
        if isinstance(child, _Inert):
            yield from _weights_of_network(child, path, f"{prefix}{name}.")


def _kind(value):
    """What a value of a file is, in words."""
    if isinstance(value, dict):
        return f"a dict of {_listed(list(value))}" if value else "an empty dict"
    return f"a value of type {type(value).__name__}"


def _without_parallel_prefix(state, own):
    """Drop the 'module.' that DataParallel puts before every name, unless the network's own names have it."""
    prefix = "module."
    if any(name.startswith(prefix) for name in own) or not all(name.startswith(prefix) for name in state):
        return state
    stripped = OrderedDict((name.removeprefix(prefix), value) for name, value in state.items())
    metadata = getattr(state, "_metadata", {})
    # The network's own entry is called 'module', without the dot; the one without a name is DataParallel's.
    stripped._metadata = {
        name[len(prefix) :]: entry for name, entry in metadata.items() if f"{name}.".startswith(prefix)
    }
    return stripped


def _same_shape(found, own):
    """Whether shapes agree. Before PyTorch 0.4 a number was a tensor of one element; load_state_dict converts it."""
    return found.shape == own.shape or (own.dim() == 0 and tuple(found.shape) == (1,))


def _misfit(source, network, missing, unexpected, shapes, count, takes_num_classes):
    """One message for weights that do not fit. shapes: name -> (shape in the file, shape in the network)."""
    faults = []
    if missing:
        faults.append(f"{len(missing)} of {count} tensors are missing ({_listed(missing)})")
    if unexpected:
        faults.append(f"{len(unexpected)} are unexpected ({_listed(unexpected)})")
    if shapes:
        shown = [f"{name} is {found}, the network's {own}" for name, (found, own) in shapes.items()]
        faults.append(f"{len(shapes)} have another shape ({_listed(shown)})")
    message = f"{source} does not fit {network}: {'; '.join(faults)}"
    layers = {name.rpartition(".")[0] for name in shapes}
    if takes_num_classes and len(layers) == 1 and all(found[1:] == own[1:] for found, own in shapes.values()):
        classes = next(iter(shapes.values()))[0][0]
        message += f"; if it was trained for {classes} classes, set NUM_CLASSES={classes}"
    return f"{message}. {HELP}"


def _refuse_not_finite(module, source):
    # In float64 a sum of finite float32 values is finite, so one pass without a copy tells.
    for name, value in module.state_dict().items():
        if value.is_floating_point() and not math.isfinite(value.sum(dtype=torch.float64)):
            raise DissectionError(f"{source}: {name} holds values that are not finite (NaN or infinity); {HELP}")


def _listed(names):
    """The first few of a list, for a message."""
    shown = ", ".join(str(name) for name in names[:LISTED])
    return f"{shown}, and {len(names) - LISTED} more" if len(names) > LISTED else shown or "nothing"
