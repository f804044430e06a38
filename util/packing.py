"""Boolean images packed for counting and keeping: eight pixels a byte."""

import numpy as np


def pack(pixels):
    """Pack boolean images for counting. pixels: bool (A, S, S). Returns uint64 (A, words), zero-filled at the end."""
    bits = pixels.reshape(len(pixels), pixels.shape[1] * pixels.shape[2])
    packed = np.zeros((len(pixels), words_of(pixels.shape[1:]) * 8), np.uint8)
    packed[:, : -(-bits.shape[1] // 8)] = np.packbits(bits, axis=1)
    return packed.view(np.uint64)


def unpack(packed, grid):
    """What pack was given. packed: uint64 (A, words). grid: (rows, columns). Returns bool (A, rows, columns)."""
    size = grid[0] * grid[1]
    return np.unpackbits(packed.view(np.uint8), axis=1, count=size).view(bool).reshape(len(packed), *grid)


def words_of(grid):
    """How many uint64 a packed image on a grid (rows, columns) takes."""
    return -(-grid[0] * grid[1] // 64)
