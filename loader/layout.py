"""How the output of a layer becomes activation maps (N, U, H, W): what a layout is and how it is found, here alone.

Networks lay their outputs out in one of three ways:
    maps            (N, U, H, W)    convolutions
    channels last   (N, H, W, U)    Swin's blocks, the inner linear layers of ConvNeXt
    tokens          (N, T, U)       vision transformers: a grid of H x W tokens, behind leading ones (class, registers)
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from util.errors import DissectionError

# Tokens that may stand before the grid: none, a class, a class and a distillation token, a class and four registers.
_LEADING = (0, 1, 2, 5)

# Modules that give maps, whatever their size says.
_GIVE_MAPS = (
    nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd,
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """The layout of a layer's output. kind: 'maps', 'channels last' or 'tokens'.

    grid: rows and columns of the tokens, leading: how many stand before them; for 'tokens' alone.
    """

    kind: str
    grid: tuple | None = None
    leading: int = 0

    def __post_init__(self):
        if self.kind not in _DIMENSIONS or (self.grid is None) == (self.kind == "tokens"):
            kinds = "Layout('maps'), Layout('channels last') or Layout('tokens', grid=(rows, columns), leading=1)"
            raise DissectionError(f"{self} is no layout: use {kinds}")

    def to_maps(self, output):
        """A layer's output as a view (N, U, H, W). Raises ValueError for another shape than the layout says."""
        if output.dim() != _DIMENSIONS[self.kind]:
            raise ValueError(f"a tensor of shape {tuple(output.shape)} is not {self}")
        if self.kind == "maps":
            return output
        if self.kind == "channels last":
            return output.permute(0, 3, 1, 2)
        grid = output[:, self.leading :].permute(0, 2, 1)  # (N, U, H * W)
        if grid.shape[2] != math.prod(self.grid):
            raise ValueError(f"{grid.shape[2]} tokens are not {self}")
        return grid.unflatten(2, self.grid)

    def __str__(self):
        if self.kind != "tokens":
            return self.kind
        return f"tokens, {self.grid[0]} x {self.grid[1]} behind {self.leading}"


_DIMENSIONS = {"maps": 4, "channels last": 4, "tokens": 3}


def gives_maps(module, shape):
    """Whether a module's output of this shape can be nothing but maps."""
    return len(shape) == 4 and isinstance(module, _GIVE_MAPS)


def find_layout(module, shape, shape_elsewhere):
    """The layout of a module's output, or None when it cannot be told.

    module: nn.Module. shape: of its output for one image, with the batch's 1. shape_elsewhere: for an image of another
    size, None where the network takes no other. What grows with the image is place, what does not is units; where the
    size cannot be varied, maps of a square image are square.
    """
    if gives_maps(module, shape):
        return Layout("maps")
    varies = None
    if shape_elsewhere is not None and len(shape_elsewhere) == len(shape) and shape_elsewhere != shape:
        varies = [here != there for here, there in zip(shape[1:], shape_elsewhere[1:], strict=True)]
    if len(shape) == 4:
        maps = varies == [False, True, True] if varies else shape[2] == shape[3] != shape[1]
        last = varies == [True, True, False] if varies else shape[1] == shape[2] != shape[3]
        return Layout("maps") if maps else Layout("channels last") if last else None
    if len(shape) == 3 and varies in (None, [True, False]):
        grids, settled = _grids(shape[1]), varies or _works_on(module, shape[2]) or not _grids(shape[2])
        return Layout("tokens", *grids[0]) if len(grids) == 1 and settled else None
    return None


def _grids(count):
    """The square grids that a number of tokens can be: list of ((rows, columns), leading tokens)."""
    sides = [(math.isqrt(count - leading), leading) for leading in _LEADING if count > leading]
    return [((side, side), leading) for side, leading in sides if side**2 + leading == count]


def _works_on(module, units):
    """Whether the module normalises or computes vectors of so many units: then they are its last dimension."""
    return any(
        getattr(part, "out_features", None) == units or tuple(getattr(part, "normalized_shape", ()))[-1:] == (units,)
        for part in module.modules()
    )


def stated_example(shape):
    """The line for a loader file that states the layout of an output of this shape, as far as it can be guessed."""
    return "Layout('tokens', grid=(rows, columns), leading=1)" if len(shape) == 3 else "Layout('channels last')"


def other_size(images):
    """Images of another size, for find_layout. images: (N, C, H, W). Returns (1, C, H', W')."""
    height, width = (length + max(32, length // 64 * 32) for length in images.shape[2:])
    return torch.zeros((1, images.shape[1], height, width), dtype=images.dtype, device=images.device)
