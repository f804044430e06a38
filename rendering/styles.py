"""Hair, beards and clothes as data."""

from dataclasses import dataclass

# The states of a chin, one at a time; without any of them it wears a full beard.
CHINS = ("No_Beard", "5_o_Clock_Shadow", "Goatee")


@dataclass(frozen=True)
class Garment:
    """opening: how far its V reaches below the base of the neck, face units. striped; shirt: worn over one."""

    opening: float
    striped: bool = False
    shirt: bool = False


GARMENTS = {
    "pullover": Garment(0.97),
    "striped": Garment(0.70, striped=True),
    "jacket": Garment(1.5, shirt=True),
}


@dataclass(frozen=True)
class HairStyle:
    """length: how far down the sides hang, face units (0 at the eyes). volume: how far it stands off the skull.

    fringe: how far down it falls over the forehead from the hairline. parting: where it parts, -1 left to 1 right.
    arched: whether the hairline is round and not square. straight: whether strands are seen, and not curls or stubs.
    cover: how much of the skin it hides, 0..1. softness: of its edge, face units.
    """

    length: float
    volume: float
    fringe: float = 0.0
    parting: float = 0.0
    arched: bool = False
    straight: bool = True
    cover: float = 0.97
    softness: float = 0.03


BALD = HairStyle(0.0, 0.0)
HAIR_STYLES = {
    "bald": BALD,
    "cropped": HairStyle(-0.15, 0.05, straight=False, cover=0.88, softness=0.06),
    "short": HairStyle(0.05, 0.14, fringe=0.06, parting=0.5),
    "swept": HairStyle(0.0, 0.22, parting=-0.6),
    "fringe": HairStyle(0.1, 0.16, fringe=0.35, parting=0.2),
    "pulled_back": HairStyle(-0.05, 0.10, arched=True),
    "bob": HairStyle(1.35, 0.28, parting=0.5, arched=True),
    "long": HairStyle(2.3, 0.24, parting=-0.2, arched=True),
    "long_fringe": HairStyle(2.2, 0.25, fringe=0.42),
    "afro": HairStyle(0.35, 0.50, arched=True, straight=False),
}
