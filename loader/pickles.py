"""Files of torch.save, read without running any code that they hold.

A pickle can name any function of this computer to be called while it is read. So a file is first walked through opcode
by opcode without being executed (pickletools), then read by torch's weights-only unpickler, which builds tensors and
plain containers and nothing else. Whatever else a file names is replaced by an inert stand-in, made here and importing
nothing: it keeps the attributes, items or elements that the file gives it. A file that calls what is not known as data,
or names what can run code, is refused. Nothing here ever loads with weights_only=False.
"""

import _compat_pickle
import io
import pickle
import pickletools
import shutil
import struct
import warnings
import zipfile
from collections import OrderedDict

import torch

from util.errors import DissectionError, first_few

HELP = "model/README.md and docs/networks.md say which file each task needs and how to get it"
LISTED = 4  # names that an error shows of each kind

# Data that is written as a call, and so may be called, which makes a stand-in: whole networks, what training scripts
# keep beside the weights, and how libraries spell paths, dates, containers and settings.
CALLED_AS_DATA = (
    "torch.nn.", "torch._C._nn.", "torch.optim.", "torchvision.", "facenet_pytorch.", "numpy.", "pandas.",
    "pathlib.", "datetime.", "zoneinfo.", "pytz.", "dateutil.", "decimal.", "fractions.", "uuid.", "collections.",
    "typing.", "types.SimpleNamespace", "argparse.Namespace", "copyreg._reconstructor", "functools.partial",
    "_operator.getitem",  # of typing: Dict[str, int] is getitem(Dict, (str, int)), as OmegaConf writes it
    "omegaconf.", "easydict.", "addict.", "yacs.", "munch.", "box.", "ml_collections.", "mmengine.", "mmcv.",
    "pytorch_lightning.", "lightning.", "lightning_fabric.", "lightning_utilities.",
)  # fmt: skip

# Modules that no honest checkpoint names, with exceptions: what they hold can run code, or is a step towards it.
RUN_CODE = {
    "ast", "asyncio", "atexit", "bdb", "__builtin__", "builtins", "cloudpickle", "code", "codeop", "concurrent",
    "copyreg", "cProfile", "_ctypes", "ctypes", "dill", "dis", "distutils", "doctest", "ensurepip", "ftplib",
    "functools", "gc", "http", "imp", "importlib", "inspect", "_io", "io", "joblib", "linecache", "marshal",
    "mmap", "multiprocessing", "nt", "_operator", "operator", "os", "pdb", "_pickle", "pickle", "pickletools",
    "pip", "pkgutil", "platform", "posix", "posixpath", "_posixsubprocess", "profile", "pty", "pydoc", "runpy",
    "setuptools", "shelve", "shutil", "signal", "site", "smtplib", "socket", "socketserver", "sqlite3", "ssl",
    "subprocess", "sys", "tempfile", "_thread", "threading", "timeit", "trace", "types", "urllib", "venv",
    "webbrowser", "_winapi", "xmlrpc", "zipimport",
}  # fmt: skip
_TYPES = (
    "bool", "bytearray", "bytes", "complex", "dict", "ellipsis", "float", "frozenset", "int", "list", "object", "range",
    "set", "slice", "str", "tuple", "type", "Ellipsis", "NotImplemented",
)  # fmt: skip
HARMLESS = {
    *(f"builtins.{name}" for name in _TYPES), "types.SimpleNamespace", "types.NoneType", "types.MappingProxyType",
    "copyreg._reconstructor", "functools.partial", "_operator.getitem",
}  # fmt: skip

# Names under torch. are left to torch's weights-only unpickler, which has its own list, but for these.
INERT_UNDER_TORCH = (
    "torch.nn.", "torch._C._nn.", "torch.optim.", "torch.torch_version.", "torch.amp.", "torch.cuda.amp.",
)  # fmt: skip

# Files of PyTorch before 1.6 begin with this pickled magic number, after the bytes for the pickle protocol. Five
# pickles precede the raw storages: magic number, protocol version, facts about the system, the object itself, the
# storages' keys.
LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
LEGACY_PICKLES = 5
ZIP_START = b"PK\x03\x04"

# Opcodes of Python 2 that torch's weights-only unpickler lacks, though they only spell strings and numbers.
PYTHON2_OPCODES = {"BINSTRING", "STRING", "INT", "LONG", "LONG4"}
# In files before 1.6 a class of a network is a persistent id: a tuple of this word, the class, the file of its source,
# and the source. Torch's weights-only unpickler refuses it, so it is written anew as a call that takes the class out.
CLASS_WORD, CLASS_TAKER = "module", "stand_in.class_of"
TEXT_OPCODES = {"BINUNICODE", "SHORT_BINUNICODE", "UNICODE", "BINSTRING", "SHORT_BINSTRING", "STRING"}
# Opcodes that call a global which can't be told from the opcode itself; torch.save doesn't write them by default.
HIDDEN_GLOBAL_OPCODES = {"STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}
# Opcodes whose result is, or is made by, their first operand.
OF_FIRST_OPERAND = {"NEWOBJ", "REDUCE", "BUILD", "APPEND", "APPENDS", "SETITEM", "SETITEMS"}

# Whole networks have some 100,000 opcodes; a few kilobytes can unpack to any number, which take seconds a million.
MOST_OPCODES, MOST_BYTES = 2_000_000, 256 << 20

# What pickletools, and following what it says, raise for bytes that are no pickle.
NO_PICKLE = (ValueError, OverflowError, MemoryError, struct.error, LookupError)


class _WouldRunCodeError(Exception):
    """A file calls what is not known as data. Holds its name."""


class _TooLongError(Exception):
    """A pickle is longer than any checkpoint's."""

    def __init__(self):
        super().__init__(f"its pickle, without tensors, has over {MOST_OPCODES:,} operations or {MOST_BYTES >> 20} MB")


class _StandInType(type):
    """Type of stand-ins; calling one, which is what a pickle's REDUCE does, is for data alone."""

    def __call__(cls, *arguments, **options):
        if not (cls.__name__ in HARMLESS or cls.__name__.startswith(CALLED_AS_DATA)):
            raise _WouldRunCodeError(cls.__name__)
        return cls.__new__(cls, *arguments, **options)


class Inert(metaclass=_StandInType):
    """Stands in for an object of a file: takes any arguments, does nothing, keeps the attributes it is given.

    attributes: dict. Of a class whose objects the file fills with items or elements, a plain OrderedDict or list stands
    in, because torch's unpickler fills nothing else.
    """

    container = None  # OrderedDict or list in a subclass

    def __new__(cls, *arguments, **options):
        if cls.container is not None:
            return cls.container()
        stand_in = super().__new__(cls)
        stand_in.attributes = {}
        return stand_in

    def __setstate__(self, state):
        self.attributes = state if isinstance(state, dict) else {}


def is_torch_file(start):
    """Whether a file of these first bytes may be one of torch.save."""
    return start.startswith(ZIP_START) or LEGACY_MAGIC in start


def read_torch_file(stream, start, path):
    """Read what a file of torch.save holds, on the CPU, running none of it.

    stream: binary file, start: its first bytes, path: for errors. Any version of PyTorch since 0.2, under Python 2 or
    3. Returns tensors, dicts, lists and numbers, with an Inert for every other object. Raises DissectionError for a
    damaged file and for one that would run code.
    """
    stream.seek(0)
    zipped = start.startswith(ZIP_START)
    try:
        pickles, count = (io.BytesIO(_pickle_of_archive(stream, path)), 1) if zipped else (stream, LEGACY_PICKLES)
        names, opcodes, containers = _scan(pickles, count)
    except _TooLongError as error:
        raise _refused(path, error) from error
    except NO_PICKLE as error:
        raise damaged(path, error) from error
    _refuse_foreign(names, opcodes, path)
    stream.seek(0)
    if opcodes & {*PYTHON2_OPCODES, CLASS_WORD} and not zipped:
        stream = _respelled(stream)
    return _unpickle(stream, names, containers, path)


def _scan(stream, count=1):
    """Walk through count pickles of a stream without executing them. Raises NO_PICKLE errors and _TooLongError.

    Returns (set of dotted global names, set of opcode names, {global name: container that its objects are filled as}).
    Among the opcodes stands CLASS_WORD where it occurs as a text.
    """
    names, opcodes, containers, left = set(), set(), {}, MOST_OPCODES
    for _ in range(count):
        stack, memo = [], {}  # per object the global that made it, None for others
        for opcode, argument, _ in pickletools.genops(stream):
            left -= 1
            if left < 0:
                raise _TooLongError
            name = opcode.name
            opcodes.add(name)
            if name in TEXT_OPCODES and argument == CLASS_WORD:
                opcodes.add(CLASS_WORD)
            if name.endswith("PUT") or name == "MEMOIZE":
                memo[len(memo) if argument is None else argument] = stack[-1]
            elif name.endswith("GET"):
                stack.append(memo[argument])
            else:
                operands, maker = _taken(stack, opcode.stack_before), None
                if name in ("GLOBAL", "INST"):
                    maker = _modern(argument)
                    names.add(maker)
                elif name in OF_FIRST_OPERAND:
                    maker = operands[0]
                if name.startswith(("SETITEM", "APPEND")):
                    containers.setdefault(maker, OrderedDict if name.startswith("SET") else list)
                stack += [_MARK if kind is pickletools.markobject else maker for kind in opcode.stack_after]
    return names, opcodes, containers


_MARK = object()  # on the stack of _scan


def _taken(stack, kinds):
    """Take an opcode's operands off a stack. kinds: what pickletools says they are. Returns list, lowest first."""
    start = len(stack) - len(kinds)
    if pickletools.markobject in kinds:
        start = len(stack) - 1
        while start >= 0 and stack[start] is not _MARK:
            start -= 1
        start -= kinds.index(pickletools.markobject)
    if start < 0:
        raise ValueError("an opcode lacks its operands")
    operands = stack[start:]
    del stack[start:]
    return operands


def _modern(argument):
    """The dotted name, as Python 3 calls it, of a global as pickletools spells it: 'module name'."""
    module, _, name = argument.partition(" ")
    if (module, name) in _compat_pickle.NAME_MAPPING:
        module, name = _compat_pickle.NAME_MAPPING[module, name]
    return f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}"


def what_else(start, stream):
    """Say what a file is that torch.save did not write. start: its first bytes; stream: at its start."""
    if not start:
        return "is an empty file"
    if start.lstrip().startswith(b"<"):
        return "is a web page and no checkpoint: what was saved is the page around the download"
    if start.startswith(b"version https://git-lfs"):
        return "is only the Git LFS pointer of a checkpoint: fetch the file itself with 'git lfs pull'"
    try:
        names, *_ = _scan(stream)
    except _TooLongError as error:
        return f"is no file of torch.save: {error}"
    except NO_PICKLE:
        return f"is no PyTorch checkpoint: it begins with {start[:12]!r}"
    named = f" that names {first_few(sorted(names), LISTED)}" if names else ""
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
            listed = first_few(members, LISTED) or "nothing"
            raise DissectionError(f"{path} is a zip archive of {listed} and no checkpoint; {HELP}")
        if archive.getinfo(found[0]).file_size > MOST_BYTES:
            raise _TooLongError
        # torch doesn't compare checksums, so a flipped bit in the weights would go unnoticed.
        broken = archive.testzip()
        if broken is not None:
            raise DissectionError(f"{path} is damaged: {broken} fails its checksum; get the file again; {HELP}")
        return archive.read(found[0])
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError, *NO_PICKLE) as error:
        raise damaged(path, error) from error


def _refuse_foreign(names, opcodes, path):
    can_run = sorted(name for name in names if name.partition(".")[0] in RUN_CODE and name not in HARMLESS)
    if can_run:
        raise _refused(path, f"it names {first_few(can_run, LISTED)}")
    if opcodes & HIDDEN_GLOBAL_OPCODES:
        raise _refused(path, "it is written in a pickle protocol above 3, which hides what it names")


def _refused(path, reason):
    return DissectionError(
        f"{path} is refused: {reason}. A checkpoint may hold tensors and data alone, because reading more could run "
        "code. If it is your own, load it in your program and save the weights: torch.save(network.state_dict(), path)"
    )


def damaged(path, error):
    """The DissectionError for a file that cannot be read to its end. error: what was raised."""
    reason = str(error) or type(error).__name__
    return DissectionError(f"{path} is damaged or cut short ({reason}): get the file again; {HELP}")


def _unpickle(stream, names, containers, path):
    """Read a checkpoint's object with torch's weights-only unpickler. Returns it; raises DissectionError.

    names: the globals that it may name; torch takes its own for those that it knows. containers: see _scan.
    """
    stand_ins = [
        (_StandInType(name, (Inert,), {"container": containers.get(name)}), name)
        for name in names
        if not name.startswith("torch.") or name.startswith(INERT_UNDER_TORCH)
    ]
    stand_ins.append((_class_of, CLASS_TAKER))
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
            # torch warns that an encoding has no effect here (on Python 2's byte strings it has), and of protocol 3.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(stream, map_location="cpu", weights_only=True, encoding="latin1")
    except _WouldRunCodeError as error:
        raise _refused(path, f"it would run code, for it calls {error}") from error
    except pickle.UnpicklingError as error:
        reason = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0].partition(". Please")[0]
        raise _refused(path, f"torch says {reason!r}") from error
    except Exception as error:  # a damaged file can fail anywhere, with any type
        raise damaged(path, error) from error


def _respelled(stream):
    """Copy a legacy file with PYTHON2_OPCODES and classes of networks written as torch's weights-only unpickler reads
    them.

    stream: binary file at its start. Returns BytesIO at its start. Byte strings become text by Latin-1, which has a
    character for every byte; numbers become LONG1; classes calls of CLASS_TAKER.
    """
    copy = io.BytesIO()
    for _ in range(LEGACY_PICKLES):
        start = stream.tell()
        operations = list(pickletools.genops(stream))
        end = stream.tell()
        stream.seek(start)
        content = stream.read(end - start)
        ends = [position for _, _, position in operations[1:]] + [end]
        begins, classes = _classes_in(operations)
        for place, ((opcode, argument, position), stop) in enumerate(zip(operations, ends, strict=True)):
            if place in begins:
                copy.write(pickle.GLOBAL + "{}\n{}\n".format(*CLASS_TAKER.split(".")).encode())
            if place in classes:
                copy.write(pickle.REDUCE)
            elif opcode.name in PYTHON2_OPCODES:
                copy.write(_plain_opcode(argument))
            else:
                copy.write(content[position - start : stop - start])
    shutil.copyfileobj(stream, copy)
    copy.seek(0)
    return copy


def _classes_in(operations):
    """Where the persistent ids of classes stand. operations: list of pickletools.genops. Returns (set of the places of
    the MARKs with which their tuples begin, set of those of the opcodes that look them up).
    """
    marks, texts, last, begins, classes = [], {}, None, set(), set()
    for place, (opcode, argument, _) in enumerate(operations):
        if opcode.name == "MARK":
            marks.append(place)
        elif pickletools.markobject in opcode.stack_before:
            begin = marks.pop()
            last = begin if opcode.name == "TUPLE" else last
        elif opcode.name in ("BINPUT", "LONG_BINPUT", "PUT") and operations[place - 1][0].name in TEXT_OPCODES:
            texts[argument] = operations[place - 1][1]
        elif opcode.name == "BINPERSID" and last is not None:
            first, value, _ = operations[last + 1]
            if (texts.get(value) if first.name.endswith("GET") else value) == CLASS_WORD:
                begins.add(last)
                classes.add(place)
    return begins, classes


def _class_of(word, of, file, source):
    """What CLASS_TAKER stands for."""
    return of


def _plain_opcode(value):
    """The bytes that put a str, bool or int on the unpickler's stack, in opcodes it knows."""
    if isinstance(value, str):
        text = value.encode("utf-8")
        return pickle.BINUNICODE + struct.pack("<I", len(text)) + text
    if isinstance(value, bool):
        return pickle.NEWTRUE if value else pickle.NEWFALSE
    digits = pickle.encode_long(value)
    return pickle.LONG1 + struct.pack("<B", len(digits)) + digits
