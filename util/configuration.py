"""Settings for one run: the module settings.py, KEY=VALUE words from the command line, and the checks of both.

What a setting may be stands once, in settings.py, behind its value: the very words that an error then says.
"""

import argparse
import ast
import json
import re
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from util.errors import DissectionError, nearest
from util.launch import speaks

# Of the program, for reports: raised when what they say may differ for the same files and settings.
VERSION = "0.13"

# What a PRESET sets beside what scripts do by it.
AS_PUBLISHED = "computed as by the published program (PRESET=published)"  # what reports say of it
PRESETS = {"published": {"QUANTILE": 0.05, "IOU_UNION": "active"}}

_BOUNDS = {
    "above": lambda value, bound: value > bound,
    "below": lambda value, bound: value < bound,
    "at least": lambda value, bound: value >= bound,
    "at most": lambda value, bound: value <= bound,
}


@dataclass(frozen=True)
class Rule:
    """What a setting may be, read from words such as "a whole number at least 1 and at most 20, or None".

    words: as in settings.py. one: the part about a single value. many: 'no', 'yes' (a list is allowed) or 'only' (it is
    demanded). mapping: a dict of names with such values is demanded. optional: None is allowed.
    """

    words: str
    one: str
    many: str = "no"
    mapping: bool = False
    optional: bool = False

    @classmethod
    def read(cls, words):
        """Understand the words of one annotation. Raises ValueError for others."""
        one, optional = words.removesuffix(", or None"), words.endswith(", or None")
        mapping = one.startswith("a dict of names, each with ")
        one = one.removeprefix("a dict of names, each with ")
        many = "only" if one.startswith("a list of: ") else "yes" if one.endswith(", or a list of such") else "no"
        one = one.removeprefix("a list of: ").removesuffix(", or a list of such")
        known = r"(a|a whole) number( .*)?|a text that is not empty|True or False|'\w+'( or '\w+')*"
        if not all(re.fullmatch(known, choice) for choice in one.split(", or ")):
            raise ValueError(f"no rule: {words!r}")
        return cls(words, one, many, mapping, optional)

    @property
    def is_text(self):
        return any(choice.startswith(("a text", "'")) for choice in self.one.split(", or "))

    def allows(self, value):
        if self.mapping:
            return isinstance(value, dict) and all(
                isinstance(name, str) and name and self._allows_one_or_many(item) for name, item in value.items()
            )
        return self.optional if value is None else self._allows_one_or_many(value)

    def _allows_one_or_many(self, value):
        if isinstance(value, (list, tuple)):
            return self.many != "no" and len(value) > 0 and all(self._allows_one(item) for item in value)
        return self.many != "only" and self._allows_one(value)

    def _allows_one(self, value):
        return any(self._is_such(choice, value) for choice in self.one.split(", or "))

    @staticmethod
    def _is_such(choice, value):
        if choice == "True or False":
            return isinstance(value, bool)
        if choice.startswith(("a text", "'")):
            words = re.findall(r"'(\w+)'", choice)
            return isinstance(value, str) and (value in words if words else bool(value.strip()))
        kinds = int if choice.startswith("a whole") else (int, float)
        bounds = re.findall(r"(above|below|at least|at most) (\S+)", choice)
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        return is_number and all(_BOUNDS[words](value, float(bound)) for words, bound in bounds) and value == value


def rules_of(module):
    """{name: Rule} of every setting of a settings module, read from its file."""
    return {name: Rule.read(words) for name, (words, _) in _comments(module.__file__).items()}


def read_settings(module, words, description, instead=None, own=None):
    """The settings of one run.

    module: the settings module. words: the command line's words, KEY=VALUE or --help. description: of the script, the
    first lines of its help. instead: {setting that the script ignores: the one that it goes by, None where it goes by
    none}. own: a settings module of the script alone, whose names are none of the other's. Returns SimpleNamespace with
    every setting, and the overrides as they were typed (words). Prints the overrides. Raises DissectionError in one
    line for an unknown key, or a value of the wrong type or out of range, wherever it was set.
    """
    modules, instead = ([own, module] if own else [module]), instead or {}
    rules = {name: rule for one in modules for name, rule in rules_of(one).items()}
    parser = argparse.ArgumentParser(
        description=description,
        epilog=_settings_help(modules, instead) if {"-h", "--help"} & set(words) else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [KEY=VALUE ...]",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="a setting for this run only")
    values = {}
    for one in modules:
        missing = sorted(name for name in rules_of(one) if not hasattr(one, name))
        if missing:
            place = Path(one.__file__).name
            raise DissectionError(f"{place} lacks {', '.join(missing)}: give each a value before its comment")
        values |= {name: getattr(one, name) for name in rules_of(one)}
    overrides = dict(_parse_word(word, rules) for word in parser.parse_args(words).overrides)
    for name, value in {**values, **overrides}.items():
        if not rules[name].allows(value):
            raise DissectionError(f"{name} is {value!r}: it must be {rules[name].words}")
    for name, other in instead.items():
        if name in overrides and other is None:
            raise DissectionError(f"this script takes no {name}: --help lists its settings")
        if name in overrides and other not in overrides:
            meant = "" if isinstance(overrides[name], dict) else f"={overrides[name]}"
            raise DissectionError(f"this script goes by {other}, not by {name}: give it {other}{meant}")
    for name, value in PRESETS.get({**values, **overrides}["PRESET"], {}).items():
        if overrides.setdefault(name, value) != value:
            raise DissectionError(f"{name}={overrides[name]!r} and a PRESET that sets {value!r}: leave one of them out")
    for name, value in overrides.items() if speaks() else ():
        print(f"{name} = {value!r}", file=sys.stderr)
    config = SimpleNamespace(**{**values, **overrides})
    config.words = [word for word in words if "=" in word]
    if config.TEST_MODE:
        # A test's results never stand where a whole run's are looked for.
        for name in ("OUTPUT_FOLDER", "NL_FOLDER", "PLOT_FOLDER"):
            setattr(config, name, f"{getattr(config, name).rstrip('/')}_test")
    return config


def _parse_word(word, rules):
    name, equals, text = word.partition("=")
    if not equals:
        raise DissectionError(f"{word!r} is not KEY=VALUE, such as TASK=smile; --help lists the settings")
    if name not in rules:
        close = nearest(name, rules)
        advice = f": did you mean {close[0]}?" if close else "; --help lists the settings"
        raise DissectionError(f"there is no setting {name!r}{advice}")
    return name, parse_value(text, rules[name])


def parse_value(text, rule):
    """Read a value as typed behind KEY=: a Python literal or, where the setting is a text, the bare words.

    A list may be written ['a', 'b'], [a,b] (what a shell leaves of it) or a,b.
    """
    text = text.strip()
    if rule.is_text and rule.many == "no" and not rule.mapping:
        words = {"none": None} if rule.optional else {}
        words |= {"true": True, "false": False} if "True or False" in rule.one else {}
        if text.lower() in words:
            return words[text.lower()]
        return _literal(text) if text[:1] in ("'", '"') else text
    if rule.many != "no" and rule.is_text and not rule.mapping:
        items = [item.strip().strip("'\"") for item in text.strip("[]()").split(",")]
        items = [item for item in items if item]
        return items if "," in text or text[:1] in ("[", "(") or rule.many == "only" else text.strip("'\"")
    return _literal({"true": "True", "false": "False", "none": "None"}.get(text.lower(), text))


def _literal(text):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text  # the rule will refuse it, and show it as it was typed


def _settings_help(modules, ignored):
    """Every setting with its comment in its file, what it may be, and its present value. ignored: names left out."""
    lines = ["settings:"]
    for module in modules:
        for name, (words, comment) in _comments(module.__file__).items():
            if name not in ignored:
                lines.append(f"  {name} = {getattr(module, name)!r}    ({words})")
                lines += [f"      {line}" for line in comment]
    return "\n".join(lines)


def _comments(path):
    """{name: (comment behind its value, [comment lines directly above])} of every setting in a file.

    Raises DissectionError for a setting whose comment does not say what it may be.
    """
    found, above, last_line, name, behind = {}, [], 0, None, ""
    with open(path, "rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type != tokenize.NL]
    for token, following in zip(tokens, tokens[1:], strict=False):
        if token.type == tokenize.COMMENT and name is not None:
            behind = behind or token.string.lstrip("# ")
        elif token.type == tokenize.COMMENT and token.start[1] == 0:
            above = [*(above if token.start[0] == last_line + 1 else []), token.string.lstrip("# ")]
            last_line = token.start[0]
        elif token.type == tokenize.NAME and token.start[1] == 0 and token.string.isupper() and following.string == "=":
            name, behind = token.string, ""
            above = above if token.start[0] == last_line + 1 else []
        elif token.type == tokenize.NEWLINE and name is not None:
            if not behind:
                raise DissectionError(f"{path}, {name}: a comment behind the value must say what it may be")
            found[name], name = (behind, above), None
    return found


def snapshot(config, **more):
    """The settings of one run, and more, as JSON text, to be kept beside its results."""
    return json.dumps({**{name: value for name, value in vars(config).items() if name.isupper()}, **more}, indent=1)
