"""The plain name of what a unit finds: a mouth rather than the lipstick on some of them (method.md §8.6)."""

import numpy as np

from method.segmentation import count_pixels

_ALIKE = 0.95  # IoU from which masks are the same: those of one ellipse reach 1.0, of two like ones 0.89 at most
_COVERED = 0.9  # share of a concept's photographs on which a wider one lies as well


class SharedMasks:
    """Which concepts lie on the same photographs, and how far their masks are the same there.

    both, intersection, union: int64 (C, C), photographs that carry both concepts, and pixels of their masks there.
    """

    def __init__(self, concepts):
        self.both, self.intersection, self.union = np.zeros((3, concepts, concepts), np.int64)

    def add(self, concepts, masks):
        """Count a photograph: all masks of all its rows. concepts: int (m,), in any order, one twice if two rows carry
        it, whose masks are then united. masks: packed (see util.packing.pack), uint64 (m, words), on one grid.
        """
        carried, place = np.unique(concepts, return_inverse=True)
        united = np.zeros((len(carried), masks.shape[1]), np.uint64)
        np.bitwise_or.at(united, place, masks)
        at = np.ix_(carried, carried)
        self.both[at] += 1
        overlap, area = count_pixels(united[:, None] & united), count_pixels(united)
        self.intersection[at] += overlap
        self.union[at] += area[:, None] + area - overlap

    def merge(self, ranks):
        """Add up what all processes have counted. ranks: util.ranks.Ranks."""
        self.both, self.intersection, self.union = ranks.summed(self.both, self.intersection, self.union)


def wider_concepts(both, intersection, union, asked, same_rule):
    """For each concept that images show or lack, the one that has the same masks on more photographs (method.md §8.6).

    both, intersection, union: int64 (C, C), see SharedMasks; the diagonal of both counts the photographs of each
    concept. asked: bool (C,), concepts that images show or lack; every image has the others, such as a mouth, so that
    these are the wider ones however many photographs have a mask of them. same_rule: bool (C, C), of which concepts the
    masks are drawn by one rule; it decides where no photograph carries both. Of several the widest: one that every
    image has, then the one on most photographs, then the first. Returns int64 (C,), -1 where there is none.
    """
    carried = np.diag(both)
    alike = np.where(both > 0, intersection >= _ALIKE * union, same_rule)
    wider = (both >= _COVERED * carried[:, None]) & (carried > carried[:, None])
    candidates = alike & (wider | ~asked) & (carried > 0) & (asked & (carried > 0))[:, None]
    rank = np.where(candidates, carried + np.where(asked, 0, carried.sum() + 1), -1)
    return np.where(candidates.any(axis=1), rank.argmax(axis=1), -1)


def plain_labels(top, wider, tells):
    """label_plain: the wider concept where the unit does not tell its top concept, else the top concept.

    top: int (U,), index of the top concept, -1 for none. wider: int (C,), see wider_concepts. tells: bool (U, C), see
    Presence.tells. Returns int64 (U,), -1 for none.
    """
    top = np.asarray(top)
    plain = (top >= 0) & (wider[top] >= 0) & ~tells[np.arange(len(top)), top]
    return np.where(plain, wider[top], top)
