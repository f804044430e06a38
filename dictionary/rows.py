"""What every format of a dictionary has in common: rows, what is wrong with them, and which of them can be used."""

from dataclasses import dataclass

import numpy as np

from util.errors import DissectionError

_PROBLEMS_SHOWN = 5


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a dictionary. where: file and line; what: in words; row: image index, None for the whole.

    fatal: the row cannot be used. What is not fatal deserves a look and changes nothing.
    """

    where: str
    what: str
    row: int | None = None
    fatal: bool = True

    def __str__(self):
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Row:
    """One image of the index. image: path relative to the root; where: file and line.

    masks: what the format knows of its masks; in the face format concept -> path.
    """

    index: int
    where: str
    image: str
    masks: dict


def settle(root, count, usable, problems, skip_bad):
    """Decide about rows with fatal problems: leave them out (skip_bad) or raise DissectionError.

    count: rows in all. usable: bool (count,) so far. Returns the new bool (count,).
    """
    fatal = [problem for problem in problems if problem.fatal]
    bad = np.zeros(count, bool)
    bad[[problem.row for problem in fatal]] = True
    if fatal and not skip_bad:
        raise unusable(f"{bad.sum()} of the {count} rows of {root}", fatal, root)
    usable = usable & ~bad
    if not usable.any():
        raise DissectionError(f"none of the {count} rows of {root} can be used")
    return usable


def unusable(what, problems, root):
    """The error for what cannot be used: the first problems, and what to do."""
    shown = "".join(f"\n  {problem}" for problem in problems[:_PROBLEMS_SHOWN])
    more = f"\n  and {len(problems) - _PROBLEMS_SHOWN} more" if len(problems) > _PROBLEMS_SHOWN else ""
    return DissectionError(
        f"{what} cannot be used:{shown}{more}\nMend them (python -m dictionary.check {root} lists all), or set "
        "SKIP_BAD_IMAGES=True to go on without them"
    )


def no_dictionary(root):
    """The error for a place without a dictionary."""
    return DissectionError(
        f"no Face Dictionary at {root.absolute()}: set DICTIONARY to its folder, or make one with python -m "
        "dictionary.build or python -m dictionary.render (see README.md)"
    )
