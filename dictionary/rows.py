"""What every format of a dictionary has in common: its rows, and what is wrong with them."""

from dataclasses import dataclass


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

    masks: what the format knows of its masks; in the face format concept -> path. source: which of the format's index
    files it comes from, a number.
    """

    index: int
    where: str
    image: str
    masks: dict
    source: int = 0
