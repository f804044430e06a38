"""Settings for one run: the module settings.py, KEY=VALUE words from the command line, and the checks of both."""

import argparse
import ast
import json
import math
import sys
import tokenize
from dataclasses import dataclass, replace
from types import SimpleNamespace

from util.errors import DissectionError, nearest
from util.features import FEATURE_DTYPES
from util.tally import IMAGES_KEPT, UNIONS


@dataclass(frozen=True)
class Rule:
    """What a setting may be. kinds: its types; choices: its only values; above, least, most: bounds of a number.

    optional: None is allowed. many: a list of such values is allowed (only: a list is demanded).
    mapping: a dict from texts to such values is demanded.
    """

    kinds: tuple
    choices: tuple = ()
    above: float = -math.inf
    below: float = math.inf
    least: float = -math.inf
    most: float = math.inf
    optional: bool = False
    many: str = "no"
    mapping: bool = False

    def describe(self):
        """The allowed values, in words."""
        if self.choices:
            text = " or ".join(repr(choice) for choice in self.choices)
        elif self.kinds == (bool,):
            text = "True or False"
        elif self.kinds == (str,):
            text = "a text that is not empty"
        else:
            text = "a whole number" if self.kinds == (int,) else "a number"
            bounds = {"above": self.above, "at least": self.least, "below": self.below, "at most": self.most}
            finite = [f"{words} {bound:g}" for words, bound in bounds.items() if math.isfinite(bound)]
            text = f"{text} {' and '.join(finite)}".rstrip()
        if self.mapping:
            return "a dict of names, each with " + replace(self, mapping=False).describe()
        if self.many == "only":
            text = f"a list of: {text}"
        elif self.many == "yes":
            text = f"{text}, or a list of such"
        return f"{text}, or None" if self.optional else text

    def allows(self, value):
        if self.mapping:
            one = replace(self, mapping=False)
            return isinstance(value, dict) and all(
                isinstance(name, str) and name and one.allows(item) for name, item in value.items()
            )
        if value is None:
            return self.optional
        if isinstance(value, (list, tuple)):
            return self.many != "no" and len(value) > 0 and all(self._allows_one(item) for item in value)
        return self.many != "only" and self._allows_one(value)

    def _allows_one(self, value):
        if isinstance(value, bool) != (self.kinds == (bool,)) or not isinstance(value, self.kinds):
            return False
        if self.choices:
            return value in self.choices
        if isinstance(value, str):
            return bool(value.strip())
        return isinstance(value, bool) or (self.above < value < self.below and self.least <= value <= self.most)


_TEXT, _FLAG = Rule((str,)), Rule((bool,))
_COUNT = Rule((int,), least=1)
_NUMBER = (int, float)

RULES = {
    "TASK": _TEXT,
    "TASKS": Rule((str,), many="only"),
    "LAYER_NAME": Rule((str,), many="yes"),
    "TASK_LAYERS": Rule((str,), many="yes", mapping=True),
    "WEIGHTS": Rule((str,), optional=True),
    "SEED": Rule((int,), least=0, most=2**63 - 1),
    "ARCHITECTURE": _TEXT,
    "NUM_CLASSES": _COUNT,
    "MODEL_FOLDER": _TEXT,
    "DICTIONARY": _TEXT,
    "INPUT_SIZE": Rule((int,), least=8, most=4096, optional=True),
    "CROP": Rule((bool,), optional=True),
    "SKIP_BAD_IMAGES": _FLAG,
    "TEST_MODE": _FLAG,
    "TEST_IMAGES": _COUNT,
    "QUANTILE": Rule(_NUMBER, above=0, below=1),
    "SEG_THRESHOLD": Rule(_NUMBER, least=0, below=1),
    "SCORE_THRESHOLD": Rule(_NUMBER, least=0, below=1),
    "IOU_UNION": Rule((str,), choices=UNIONS),
    "TOPN": Rule((int,), least=1, most=IMAGES_KEPT),
    "MORE_GLOBAL_CONCEPTS": Rule((str,), many="only", mapping=True),
    "GENERATE": _FLAG,
    "PLOT": _FLAG,
    "SKIP_MISSING": _FLAG,
    "DEVICE": _TEXT,
    "BATCH_SIZE": _COUNT,
    "TALLY_BATCH_SIZE": _COUNT,
    "WORKERS": Rule((int,), least=0, most=256),
    "FEATURE_DTYPE": Rule((str,), choices=FEATURE_DTYPES),
    "OUTPUT_FOLDER": _TEXT,
    "NL_FOLDER": _TEXT,
    "PLOT_FOLDER": _TEXT,
    "CACHE_FOLDER": _TEXT,
    "CLEAN": _FLAG,
}


def read_settings(module, words, description):
    """The settings of one run.

    module: the settings module. words: the command line's words, KEY=VALUE or --help. description: of the script, the
    first lines of its help. Returns SimpleNamespace with every setting, and the overrides as they were typed (words).
    Prints the overrides. Raises DissectionError in one line for an unknown key, or a value of the wrong type or out of
    range, wherever it was set.
    """
    parser = argparse.ArgumentParser(
        description=description,
        epilog=_settings_help(module) if {"-h", "--help"} & set(words) else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [KEY=VALUE ...]",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="a setting for this run only")
    values = {name: getattr(module, name) for name in RULES if hasattr(module, name)}
    missing = sorted(set(RULES) - set(values))
    if missing:
        raise DissectionError(
            f"settings.py lacks {', '.join(missing)}: take the line from the project's own settings.py"
        )
    overrides = dict(_parse_word(word) for word in parser.parse_args(words).overrides)
    for name, value in {**values, **overrides}.items():
        if not RULES[name].allows(value):
            raise DissectionError(f"{name} is {value!r}: it must be {RULES[name].describe()}")
    for name, value in overrides.items():
        print(f"{name} = {value!r}", file=sys.stderr)
    config = SimpleNamespace(**{**values, **overrides})
    config.words = [word for word in words if "=" in word]
    if config.TEST_MODE:
        # A test's results never stand where a whole run's are looked for.
        for name in ("OUTPUT_FOLDER", "NL_FOLDER", "PLOT_FOLDER"):
            setattr(config, name, f"{getattr(config, name).rstrip('/')}_test")
    return config


def _parse_word(word):
    name, equals, text = word.partition("=")
    if not equals:
        raise DissectionError(f"{word!r} is not KEY=VALUE, such as TASK=smile; --help lists the settings")
    if name not in RULES:
        close = nearest(name, RULES)
        raise DissectionError(
            f"there is no setting {name!r}"
            + (f": did you mean {close[0]}?" if close else "; --help lists the settings")
        )
    return name, parse_value(text, RULES[name])


def parse_value(text, rule):
    """Read a value as typed behind KEY=: a Python literal or, where the setting is a text, the bare words.

    A list may be written ['a', 'b'], [a,b] (what a shell leaves of it) or a,b.
    """
    text = text.strip()
    if rule.kinds == (str,) and rule.many == "no":
        if rule.optional and text == "None":
            return None
        return _literal(text) if text[:1] in ("'", '"') else text
    if rule.many != "no" and not rule.mapping:
        items = [item.strip().strip("'\"") for item in text.strip("[]()").split(",")]
        items = [item for item in items if item]
        return items if "," in text or text[:1] in ("[", "(") or rule.many == "only" else text.strip("'\"")
    return _literal({"true": "True", "false": "False", "none": "None"}.get(text.lower(), text))


def _literal(text):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text  # the rule will refuse it, and show it as it was typed


def _settings_help(module):
    """Every setting with its comment in settings.py, what it may be, and its present value."""
    lines = ["settings:"]
    for name, comment in _comments(module.__file__).items():
        if name in RULES:
            lines.append(f"  {name} = {getattr(module, name)!r}    ({RULES[name].describe()})")
            lines += [f"      {line}" for line in comment]
    return "\n".join(lines)


def _comments(path):
    """{name: [comment lines]} for each assignment at the start of a line, the comments directly above it."""
    found, waiting, last_line = {}, [], 0
    with open(path, "rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type != tokenize.NL]
    for token, following in zip(tokens, tokens[1:], strict=False):
        if token.type == tokenize.COMMENT and token.start[1] == 0:
            if token.start[0] != last_line + 1:
                waiting = []
            waiting.append(token.string.lstrip("# "))
            last_line = token.start[0]
        elif token.type == tokenize.NAME and token.start[1] == 0 and following.string == "=":
            found[token.string] = waiting if token.start[0] == last_line + 1 else []
            waiting = []
    return found


def snapshot(config):
    """The settings of one run as JSON text, to be kept beside its results."""
    return json.dumps({name: value for name, value in vars(config).items() if name in RULES}, indent=1)
