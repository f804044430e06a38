"""Which weights of a file a network takes, and what becomes of the others: one rule for every file.

Among the dicts of tensors in a file it looks for the one, and for the one common prefix of its names, that make every
tensor up to the dissected layers fit. What lies behind those layers may be missing or of another shape. Everything that
was not taken is said; what cannot be decided is refused with the ways to decide it.
"""

import math
import re
from collections import Counter, OrderedDict
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass

import torch

from loader.checkpoints import HELP, LISTED, StateDict, kind_of, state_dicts
from util.errors import DissectionError, first_few, nearest, shorten

# Of several dicts that fit, these are taken first, in this order; two others need CHECKPOINT_KEY.
FIRST_KEYS = ("state_dict", "model", "model_state_dict")
# Words of a key or prefix that say that weights are an average over training.
AVERAGED = {"ema", "swa", "averaged", "average", "shadow"}
# Prefixes that say nothing of what is behind them: they may be dropped where the network has a prefix of its own.
WRAPPERS = {"module", "_orig_mod", "model", "net", "network"}
# Prefixes of one dict that a trial load is spent on, where names alone don't fit: modules may convert old names.
TRIALS = 2

_COUNTER = "num_batches_tracked"  # files before PyTorch 0.4.1 have none, and only training reads it
_EXTRA_STATE = "_extra_state"  # of torch: anything that a module keeps beside its tensors


@dataclass(frozen=True)
class Fitted:
    """What a network has taken. key, averaged: as in Weights. unfitted: names of tensors behind the dissected layers
    that stay as built or are not finite. line: one line that says so, and what was left in the file.
    """

    key: str
    averaged: bool
    unfitted: tuple
    line: str


@dataclass(frozen=True)
class _Option:
    """A dict of tensors under the names that it has in the network. drop, add: the prefix taken off, put before."""

    source: StateDict
    drop: str
    add: str
    state: dict

    @property
    def key(self):
        return ".".join(part for part in (self.source.key, self.drop.rstrip(".")) if part)

    @property
    def averaged(self):
        words = re.findall("[A-Z]?[a-z]+|[A-Z]+", self.key)
        return bool(AVERAGED & {word.lower() for word in words}) or "n_averaged" in self.source.state


@dataclass(frozen=True)
class _Verdict:
    """How weights fit. missing: needed names. faults: {name: text} of needed tensors. shapes: {name: (found, own)} of
    all. foreign: names of weights that the network lacks, in modules that it has finished before the layers are done.
    unexpected: all names that it lacks. unfitted: {own name: what speaks against its value, if it has one} of tensors
    behind the layers that stay as built.
    """

    missing: list
    faults: dict
    shapes: dict
    foreign: list
    unexpected: list
    unfitted: dict

    @property
    def fits(self):
        return not (self.missing or self.faults or self.foreign)

    @property
    def distance(self):
        return len(self.missing) + len(self.faults), len(self.foreign)


def fit_weights(module, content, first, *, label, network, key=None, renamed=None, takes_num_classes=False):
    """Load weights into a network: every tensor up to its dissected layers, and what fits of those behind.

    module: nn.Module, changed in place. content: what a file holds, or a state dict. first: loader.behaviour.FirstPass
    of the module. label: where the weights come from, network: what the module is, both for messages. key:
    CHECKPOINT_KEY. renamed: ModelSpec.renamed. takes_num_classes: whether NUM_CLASSES can mend a class count. Float
    types are converted to the network's. Returns Fitted. Raises DissectionError that lists what is missing, of another
    shape or no plain finite tensor when nothing fits, and the choice when several do.
    """
    target = _Target(module, first, label, network, takes_num_classes)
    sources, every = _offered(target, [_with_plain_names(s, renamed, label) for s in state_dicts(content, label)])
    fit = [option for option, verdict in every if verdict.fits]
    asked = every if key is None else [
        pair for source, prefix in _asked_for(sources, key, label, fit) for pair in _options(target, source, prefix)
    ]  # fmt: skip
    fitting = [option for option, verdict in asked if verdict.fits]
    if not fitting:
        raise target.misfit(*min(asked, key=lambda pair: pair[1].distance), alone=len(sources) == 1, others=fit)
    chosen = _choose(fitting, label)
    verdict = target.load(module, chosen)
    if not verdict.fits:
        raise target.misfit(chosen, verdict, alone=len(sources) == 1)
    unfitted = verdict.unfitted | target.not_finite(module)
    line = _line(target, chosen, verdict, unfitted, _others(chosen, sources, fit))
    return Fitted(chosen.key, chosen.averaged, tuple(unfitted), line)


class _Target:
    """A network that is to be filled: its tensors, those that its dissected layers need, and how weights fit them."""

    def __init__(self, module, first, label, network, takes_num_classes):
        self.module, self.finished, self.label, self.network = module, first.finished, label, network
        self.takes_num_classes = takes_num_classes
        self.own = {n: v for n, v in module.state_dict(keep_vars=True).items() if not n.endswith(_COUNTER)}
        self.metadata = module.state_dict(keep_vars=True)._metadata
        # One tensor may have several names, of which one is enough.
        self.tensor_of = {n: id(v) if isinstance(v, torch.Tensor) else n for n, v in self.own.items()}
        needed = {self.tensor_of[name] for name in first.tensors if name in self.own}
        self.needed = {name: tensor for name, tensor in self.tensor_of.items() if tensor in needed}
        self.passing = {name for name, _ in module.named_buffers()} - {*module.state_dict()}
        self.modules = dict(module.named_modules(remove_duplicate=False))

    def by_name(self, option):
        """The verdict on weights by their names and shapes alone."""
        faults, shapes = self._faults(option.state)
        absent = [name for name in self.own if name not in option.state or name in faults]
        return self._verdict(option, absent, [name for name in option.state if name not in self.own], faults, shapes)

    def load(self, module, option):
        """Load weights into the module, or into a copy of it. Returns the verdict that comes of it."""
        faults, shapes = self._faults(option.state)
        without_shapes = {name: fault for name, fault in faults.items() if name not in shapes}
        error = None
        # First as they are, because a module may convert shapes by itself.
        for left_out in [without_shapes, faults] if shapes else [faults]:
            fitting = OrderedDict((name, value) for name, value in option.state.items() if name not in left_out)
            fitting._metadata = _metadata(option) or self.metadata
            try:
                absent, unexpected = module.load_state_dict(fitting, strict=False)
            except Exception as raised:  # a module's own conversion of old files can fail in any way
                error = raised
                continue
            shapes = {name: shape for name, shape in shapes.items() if name in left_out}
            return self._verdict(option, absent, unexpected, left_out, shapes)
        reason = shorten(str(error)) or type(error).__name__
        raise DissectionError(f"{self.label} cannot be loaded into {self.network}: {reason}; {HELP}") from error

    def _faults(self, state):
        """What speaks against single values: ({name: text}, {name: (shape, own shape)} of the misshapen)."""
        faults, shapes = {}, {}
        for name, own in self.own.items():
            value = state.get(name)
            if name not in state or name.endswith(_EXTRA_STATE):
                continue
            if not isinstance(value, torch.Tensor) or not _is_plain(value):
                faults[name] = f"{name} is no plain tensor but {kind_of(value)}"
            elif own.is_floating_point() and not value.is_floating_point():
                faults[name] = f"{name} is {value.dtype}, the network needs floats"
            # Before PyTorch 0.4 a number was a tensor of one element; load_state_dict converts it.
            elif value.shape != own.shape and not (own.dim() == 0 and tuple(value.shape) == (1,)):
                faults[name] = f"{name} is {tuple(value.shape)}, the network's {tuple(own.shape)}"
                shapes[name] = tuple(value.shape), tuple(own.shape)
        return faults, shapes

    def _verdict(self, option, absent, unexpected, faults, shapes):
        """absent: own names that found nothing. unexpected: names that found no place. faults, shapes: see _faults."""
        unexpected, absent = [name for name in unexpected if not name.endswith(_COUNTER)], set(absent)
        filled = {tensor for name, tensor in self.tensor_of.items() if name not in absent}
        empty = [name for name, tensor in self.tensor_of.items() if tensor not in filled]
        missing = {self.needed[name]: name for name in reversed(empty) if name in self.needed and name not in faults}
        return _Verdict(
            missing=list(missing.values())[::-1],
            faults={name: faults[name] for name in empty if name in self.needed and name in faults}
            | self._two_of_one(option.state, faults),
            shapes=shapes,
            foreign=[name for name in unexpected if self._is_foreign(name, option.state.get(name))],
            unexpected=unexpected,
            unfitted={name: faults.get(name, "") for name in empty if name not in self.needed},
        )

    def _is_foreign(self, name, value):
        """Whether a tensor that the network lacks is a weight within what the dissected layers are computed by.

        Counters of other tools, which are single numbers, are none, nor are buffers that the network makes itself.
        """
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.numel() < 2:
            return False
        parents = [name[: dot.start()] for dot in re.finditer(r"\.", name)]
        within = [path for path in parents if path in self.modules]
        return bool(within) and within[-1] in self.finished and name not in self.passing

    def _two_of_one(self, state, faults):
        """{name: text} of needed tensors of several names for which there are several values."""
        first, found = {}, {}
        for name, tensor in self.needed.items():
            if name in state and name not in faults:
                other = first.setdefault(tensor, name)
                if not _equal(state[name], state[other]):
                    found[name] = f"{other} and {name} are one tensor in the network, but here they differ"
        return found

    def not_finite(self, module):
        """{name: text} of the values behind the dissected layers that are not finite; DissectionError where needed."""
        found = []
        for name, value in module.state_dict().items():
            # In float64 a sum of finite float32 values is finite, so one pass without a copy tells.
            if not isinstance(value, torch.Tensor) or not value.is_floating_point() or name.endswith(_EXTRA_STATE):
                continue
            if not math.isfinite(value.sum(dtype=torch.float64)):
                found.append(name)
        needed = [name for name in found if name in self.needed]
        if needed:
            raise DissectionError(
                f"{self.label}: {needed[0]} holds values that are not finite (NaN or infinity); {HELP}"
            )
        return {name: f"{name} is not finite (NaN or infinity)" for name in found}

    def misfit(self, option, verdict, alone, others=()):
        """The DissectionError for weights that do not fit. alone: whether the file holds no others. others: those that
        would.
        """
        count, faults = len(set(self.needed.values())), []
        shapes = {name: shape for name, shape in verdict.shapes.items() if name in verdict.faults}
        rest = [fault for name, fault in verdict.faults.items() if name not in shapes]
        if verdict.missing:
            missing = first_few(verdict.missing, LISTED)
            faults.append(f"{len(verdict.missing)} of {count} tensors are missing ({missing})")
        if shapes:
            listed = first_few([verdict.faults[name] for name in shapes], LISTED)
            faults.append(f"{len(shapes)} have another shape ({listed})")
        faults += [first_few(rest, LISTED)] if rest else []
        unexpected = verdict.foreign or (verdict.unexpected if verdict.missing else [])
        if unexpected:
            faults.append(f"{len(unexpected)} are unexpected ({first_few(unexpected, LISTED)})")
        closest = "" if alone else f" (closest: {_described(option)})"
        faults += [hint for hint in (self.classes_hint(shapes), _ways(others)) if hint]
        return DissectionError(f"{self.label} does not fit {self.network}{closest}: {'; '.join(faults)}. {HELP}")

    def classes_hint(self, shapes):
        """What to set where but a number of classes differs; an empty text elsewhere. shapes: see _Verdict."""
        layers = {name.rpartition(".")[0] for name in shapes}
        alike = all(found[1:] == own[1:] for found, own in shapes.values())
        if not (self.takes_num_classes and len(layers) == 1 and alike):
            return ""
        classes = next(iter(shapes.values()))[0][0]
        return f"if it was trained for {classes} classes, set NUM_CLASSES={classes}"


# ----------------------------------------------------------------------------------------------- what a file offers


def _with_plain_names(source, renamed, label):
    """A StateDict under the names of its network: without what torch.compile puts within names, and after `renamed`."""
    source = _without(source, "._orig_mod.")
    state = source.state
    if renamed is not None:
        try:
            state = dict(renamed(state))
        except Exception as error:  # a loader file's own function can fail in any way
            reason = f"{type(error).__name__}: {error}"
            raise DissectionError(f"{label}: the loader's renamed() failed with {reason}") from error
    return StateDict(source.key, state, source.metadata)


def _without(source, part):
    """A StateDict without a part of names, such as '.module.', wherever it stands within them."""
    state = {name.replace(part, "."): value for name, value in source.state.items()}
    metadata = {f"{path}.".replace(part, ".")[:-1]: entry for path, entry in source.metadata.items()}
    return StateDict(source.key, state, metadata)


def _offered(target, sources):
    """The dicts of a file and the ways to read them: (list of StateDict, list of (_Option, _Verdict)).

    Where nothing fits as it is, they are read without what nn.DataParallel puts within names when it runs a part of a
    network, as the usual training of AlexNet and VGG has it: features.module.0.weight.
    """
    tries = []
    for those in (sources, [_without(source, ".module.") for source in sources]):
        tries.append((those, [pair for source in those for pair in _options(target, source)]))
        if any(verdict.fits for _, verdict in tries[-1][1]):
            return tries[-1]
    return tries[0]


def _asked_for(sources, key, label, fit):
    """The (StateDict, prefix of its names or None) that CHECKPOINT_KEY names. Raises DissectionError for none.

    fit: the options that fit without it, for the message.
    """
    asked = [(source, None) for source in sources if source.key == key]
    for source in sources:
        prefix = f"{key}.".removeprefix(f"{source.key}." if source.key else "").replace("._orig_mod.", ".")
        if key.startswith(f"{source.key}.") or not source.key:
            asked += [(source, prefix)] if any(name.startswith(prefix) for name in source.state) else []
    if asked:
        return asked
    there = list(dict.fromkeys(source.key or name.partition(".")[0] for source in sources for name in source.state))
    ways = _ways(fit)
    close = [] if ways else nearest(key, there)
    hint = ways or (f"did you mean {' or '.join(close)}? " if close else "") + f"It has {first_few(there, 12)}"
    raise DissectionError(f"{label} holds no weights {key!r}, as CHECKPOINT_KEY asks: {hint}")


def _ways(options):
    """How to choose among weights that fit, in words; an empty text where there are none to name."""
    keys = list(dict.fromkeys(option.key for option in options if option.key))
    return "set " + " or ".join(f"CHECKPOINT_KEY={key}" for key in keys[:LISTED]) if keys else ""


def _options(target, source, prefix=None):
    """The ways to read a dict as the network's weights: list of (_Option, _Verdict), at least one.

    prefix: the one to drop, None for every one that puts a needed name in its place. Where none fits as it is, the
    network's own prefix is put before the names.
    """
    tried = []
    for add in _own_prefixes(target):
        wanted = {name[len(add) :] for name in target.needed}
        drops = _prefixes(source.state, wanted) if prefix is None else [prefix]
        for place, drop in enumerate(drops):
            if add and not set(drop.split(".")[:-1]) <= WRAPPERS:
                continue
            state = {add + name[len(drop) :]: value for name, value in source.state.items() if name.startswith(drop)}
            option = _Option(source, drop, add, state)
            verdict = target.by_name(option)
            if not verdict.fits and not add and place < TRIALS:
                with suppress(Exception):  # of a copy, or of other weights than these; then the names decide
                    verdict = target.load(deepcopy(target.module), option)
            tried.append((option, verdict))
        fitting = [pair for pair in tried if pair[1].fits]
        if fitting:
            return fitting
    plain = _Option(source, "", "", source.state)
    return tried or [(plain, target.by_name(plain))]


def _prefixes(names, wanted):
    """The prefixes behind which wanted names stand, those of most first."""
    votes = Counter()
    for name in names:
        starts = [0, *(dot.end() for dot in re.finditer(r"\.", name))]
        votes.update(name[:start] for start in starts if name[start:] in wanted)
    return [prefix for prefix, _ in votes.most_common()]


def _own_prefixes(target):
    """Nothing, then the prefixes that all needed names of a network share, where they have several modules behind."""
    shared = []
    for parts in zip(*(name.split(".") for name in target.needed), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    prefixes = [".".join(shared[:depth]) + "." for depth in range(1, len(shared) + 1)]
    modules = {name.rpartition(".")[0] for name in target.needed}
    return ["", *(prefix for prefix in prefixes if len(modules - {prefix[:-1]}) > 1)]


def _metadata(option):
    """torch's metadata of the modules, under their names in the network."""
    return {
        (option.add + path[len(option.drop) :]).rstrip("."): entry
        for path, entry in option.source.metadata.items()
        if f"{path}.".startswith(option.drop)
    }


# ------------------------------------------------------------------------------------------------------ the choice


def _choose(fitting, label):
    """The option to take of those that fit. Raises DissectionError when that is unclear."""
    rank = {key: place for place, key in enumerate(FIRST_KEYS)}
    ordered = sorted(fitting, key=lambda o: (o.averaged, rank.get(o.source.key, len(rank)), bool(o.drop)))
    distinct = []
    for option in ordered:
        if not any(_same(option, other) for other in distinct):
            distinct.append(option)
    trained = [option for option in distinct if not option.averaged] or distinct
    by_key = {}
    for option in trained:
        by_key.setdefault(option.source.key, []).append(option)
    best = next(iter(by_key.values()))
    best = [option for option in best if not option.drop] or best
    if len(best) > 1 or (len(by_key) > 1 and best[0].source.key not in rank):
        listed = first_few([_described(option) for option in trained], 12)
        keys = [option.key for option in trained]
        ways = _ways([option for option in trained if keys.count(option.key) == 1])
        same = "their names are the same, so that the file is ambiguous: save those that are meant in one of their own"
        raise DissectionError(f"{label} holds several weights that fit, {listed}: {ways or same}")
    return best[0]


def _same(one, other):
    """Whether two options hold the same."""
    return one.state.keys() == other.state.keys() and all(
        _equal(value, other.state[name]) for name, value in one.state.items()
    )


def _equal(one, other):
    """Whether two values of a file are one, or tensors that hold the same."""
    if one is other or not (isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)):
        return one is other
    alike = (one.dtype, one.shape) == (other.dtype, other.shape) and _is_plain(one) and _is_plain(other)
    return alike and torch.equal(one, other)


def _is_plain(tensor):
    """Whether a tensor is one of plain numbers that are there."""
    return tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_meta


def _described(option):
    """Which weights of a file they are, in words."""
    what = repr(option.source.key) if option.source.key else "the state dict"
    what += f" without the prefix {option.drop!r}" if option.drop else ""
    what += f" with {option.add!r} before its names" if option.add else ""
    return what + (" (averaged over training)" if option.averaged else "")


def _others(chosen, sources, fitting):
    """The other weights of a file, in words, one text each. fitting: those that fit, the chosen one among them."""
    told = [
        f"{_described(option)}, the same" if _same(option, chosen)
        else f"{_described(option)}, which CHECKPOINT_KEY={option.key} takes"
        for option in fitting if option.key != chosen.key and option.key
    ]  # fmt: skip
    fit = {chosen.source.key, *(option.source.key for option in fitting)}
    # Not what optimizers keep, which is numbered.
    numbered = re.compile(r"(^|\.)\d+(\.|$)")
    rest = [source.key for source in sources if source.key not in fit | {""} and not numbered.search(source.key)]
    return told + [f"{key!r}, which does not fit" for key in rest]


def _line(target, chosen, verdict, unfitted, others):
    """The line that says what was taken, what was left, and which other weights the file has."""
    misshapen = [name[len(chosen.add) :] for name in verdict.shapes]
    beside = [name for name in chosen.source.state if not name.startswith(chosen.drop)]
    left = [*verdict.unexpected, *misshapen, *beside]
    parts = [f"{target.label}: took {_described(chosen)}"]
    if left:
        shapes = [f"{name} is {found}, the network's {own}" for name, (found, own) in verdict.shapes.items()]
        parts.append(f"left {_grouped(left)}" + (f" ({first_few(shapes, LISTED)})" if shapes else ""))
    if unfitted:
        faults = [fault for name, fault in unfitted.items() if fault and name not in verdict.shapes]
        told = f" ({first_few(faults, LISTED)})" if faults else ""
        parts.append(f"without usable weights of it, behind the dissected layers: {_grouped(unfitted)}{told}")
    hint = target.classes_hint({name: shape for name, shape in verdict.shapes.items() if name in unfitted})
    parts += [hint] if hint else []
    if others:
        parts.append(f"the file also has {first_few(others, LISTED)}")
    return "; ".join(parts)


def _grouped(names):
    """Names by their first module: 'fc (2 tensors), total_ops'."""
    groups = {}
    for name in names:
        groups.setdefault(name.partition(".")[0], []).append(name)
    listed = [f"{group} ({len(of)} tensors)" if len(of) > 1 else of[0] for group, of in groups.items()]
    return first_few(listed, 2 * LISTED)
