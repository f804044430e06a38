"""A picture of a Face Dictionary for people: a few images of every concept with their masks, and of every subgroup."""

from itertools import islice

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dictionary.concepts import REGIONS
from dictionary.dictionary import format_of
from dictionary.images import load_rgb, read_mask
from dictionary.subgroups import find_subgroups

FACES_PER_BLOCK = 4
BLOCKS_ACROSS = 4
CELL_HEIGHT_PX, CELL_WIDTH_PX, TITLE_PX, GAP_PX = 164, 134, 18, 6

# Colour of a mask's outline: by face region.
_COLOURS = ((255, 220, 0), (255, 110, 180), (0, 220, 255), (255, 70, 40), (120, 255, 90))
OUTLINES = dict(zip(REGIONS, _COLOURS, strict=True))
_ELSEWHERE = (255, 255, 255)  # of a region of the dictionary's own, or of none


def write_contact_sheet(root, path):
    """Write the contact sheet of the dictionary at root to path (PNG).

    A block for every local concept that the dictionary has, with the outline of its mask on the first images that carry
    it, then one for every subgroup. Raises what reading the images raises.
    """
    found_format = format_of(root)
    rows, _ = found_format.read_index()
    blocks = []
    for concept in found_format.concepts_of(rows, set(rows.names)):
        carriers = islice((row for row in rows if concept.name in row.masks), FACES_PER_BLOCK)
        blocks.append((concept.name, [_outlined(root, row, concept) for row in carriers]))
    subgroups, _ = find_subgroups(root, limit=FACES_PER_BLOCK)
    for concept, groups in subgroups.items():
        for group, images in groups.items():
            blocks.append((f"{concept}: {group}", [_fitted(load_rgb(root / image)) for image in images]))
    Image.fromarray(_sheet(blocks)).save(path)


def _outlined(root, row, concept):
    """An image in a cell with the outline of one of its masks, uint8 (cell height, cell width, 3)."""
    mask = np.uint8(read_mask(root / row.masks[concept.name])) * 255
    cell, mask = _fitted(load_rgb(root / row.image)), _fitted(mask)
    # On the scaled picture: an outline drawn before would fade.
    contours, _ = cv2.findContours(np.uint8(mask > 127), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(cell, contours, -1, OUTLINES.get(concept.region, _ELSEWHERE), 1, cv2.LINE_AA)
    return cell


def _fitted(image):
    """An image scaled to fit a cell, on black. image: uint8 (H, W, ...). Returns the same of the cell's size."""
    scale = min(CELL_WIDTH_PX / image.shape[1], CELL_HEIGHT_PX / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    cell = np.zeros((CELL_HEIGHT_PX, CELL_WIDTH_PX, *image.shape[2:]), np.uint8)
    cell[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cell


def _sheet(blocks):
    """All blocks on one page. blocks: list of (title, list of cells). Returns uint8 (H, W, 3)."""
    width, height = FACES_PER_BLOCK * CELL_WIDTH_PX + GAP_PX, TITLE_PX + CELL_HEIGHT_PX + GAP_PX
    down = -(-len(blocks) // BLOCKS_ACROSS)
    page = Image.new("RGB", (BLOCKS_ACROSS * width, down * height), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for number, (title, cells) in enumerate(blocks):
        left, top = number % BLOCKS_ACROSS * width, number // BLOCKS_ACROSS * height
        draw.text((left + 2, top + 1), title, "black", font)
        for place, cell in enumerate(cells):
            page.paste(Image.fromarray(cell), (left + place * CELL_WIDTH_PX, top + TITLE_PX))
    return np.asarray(page)
