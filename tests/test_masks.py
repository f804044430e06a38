"""What of a mask file belongs to the concept (method.md §1.1): labels, palettes, colours, depths, soft edges."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from dictionary.dictionary import open_dictionary
from dictionary.images import ImageError, decode_mask, read_mask

SHAPE = np.zeros((40, 30), bool)
SHAPE[10:25, 8:20] = True


def stored(image, kind="PNG", **options):
    """The bytes of a Pillow image."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def palette_image(indices, colours):
    image = Image.fromarray(np.uint8(indices), "P")
    image.putpalette(np.array(colours, np.uint8).ravel().tolist())
    return image


def coloured(colour):
    return np.uint8(SHAPE[..., None] * np.array(colour))


def png16(pixels):
    return cv2.imencode(".png", np.uint16(pixels))[1].tobytes()


VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
HARD = {
    "as published": stored(Image.fromarray(np.uint8(SHAPE) * 255)),
    "0 and 1": stored(Image.fromarray(np.uint8(SHAPE))),
    "label 7": stored(Image.fromarray(np.uint8(SHAPE) * 7)),
    "several labels": stored(Image.fromarray(np.uint8(SHAPE) * np.uint8(1 + np.arange(30) % 15))),
    "one bit": stored(Image.fromarray(SHAPE)),
    "one bit TIFF": stored(Image.fromarray(SHAPE), "TIFF", compression="group4"),
    "palette in VOC's colours": stored(palette_image(SHAPE, VOC)),
    "palette whose colours are black": stored(palette_image(SHAPE * 2, [(0, 0, 0)] * 3)),
    "palette whose background is white": stored(palette_image(SHAPE, [(255, 255, 255), (0, 0, 0)])),
    "palette of many indices": stored(palette_image(SHAPE * (1 + np.arange(30)), [(9, 9, 9)] * 40)),
    "dark red": stored(Image.fromarray(coloured((128, 0, 0)))),
    "almost black blue": stored(Image.fromarray(coloured((0, 0, 3)))),
    "many colours": stored(Image.fromarray(coloured((1, 1, 1)) * np.uint8(np.arange(1, 31)[:, None] * (1, 2, 3)))),
    "grey in three channels": stored(Image.fromarray(coloured((7, 7, 7)))),
    "a grey image with a palette of its own levels": stored(Image.fromarray(np.uint8(SHAPE) * 255).convert("P")),
    "GIF": stored(palette_image(SHAPE, VOC), "GIF"),
    "BMP": stored(Image.fromarray(coloured((0, 60, 0))), "BMP"),
    "16 bits, 0 and 255": png16(SHAPE * 255),
    "16 bits, 0 and 65535": png16(SHAPE * 65535),
    "16 bits, 0 and 1": png16(SHAPE),
    "16 bits of colour": png16(SHAPE[..., None] * np.array((0, 0, 200))),
    "16 bits TIFF": stored(Image.fromarray(np.uint16(SHAPE) * 9), "TIFF"),
    "32 bits": stored(Image.fromarray(np.int32(SHAPE) * 70000), "TIFF"),
}


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.99])
def test_what_is_not_background_belongs_whatever_the_threshold(kind, threshold):
    assert np.array_equal(decode_mask(HARD[kind], kind, threshold), SHAPE)


def test_the_void_of_a_palette_is_background():
    indices = np.uint8(SHAPE)
    indices[0] = 255
    colours = VOC + [(9, 9, 9)] * 253
    assert np.array_equal(decode_mask(stored(palette_image(indices, colours)), "voc"), SHAPE)
    assert decode_mask(stored(Image.fromarray(indices)), "grey")[0].all()  # of a grey image, 255 is not


def soft(brightest=255, dtype=np.uint8):
    """A mask with soft edges: a blurred shape. Returns (levels, where they exceed half of the brightest)."""
    levels = cv2.GaussianBlur(np.float64(SHAPE), (0, 0), 2)
    levels = np.round(levels / levels.max() * brightest).astype(dtype)
    return levels, levels > brightest / 2


@pytest.mark.parametrize(
    ("brightest", "dtype"), [(255, np.uint8), (120, np.uint8), (65535, np.uint16), (4000, np.uint16)]
)
def test_soft_edges_are_cut_at_a_share_of_the_brightest_level(brightest, dtype):
    levels, expected = soft(brightest, dtype)
    content = cv2.imencode(".png", levels)[1].tobytes()
    assert np.array_equal(decode_mask(content, "soft", 0.5), expected)
    assert np.array_equal(decode_mask(content, "soft", 0.2), levels > 0.2 * brightest)
    assert decode_mask(content, "soft", 0.99).any()  # the brightest pixels always belong


def test_soft_edges_in_three_channels_and_in_jpeg():
    levels, expected = soft()
    assert np.array_equal(decode_mask(stored(Image.fromarray(np.dstack([levels] * 3))), "rgb"), expected)
    deep, expected_deep = soft(4000, np.uint16)
    assert np.array_equal(decode_mask(png16(np.dstack([deep] * 3)), "16 bits"), expected_deep)
    for mode in ("L", "RGB"):
        jpeg = stored(Image.fromarray(np.uint8(SHAPE) * 255).convert(mode), "JPEG", quality=60)
        assert np.array_equal(decode_mask(jpeg, "jpeg"), SHAPE)  # without the ripples that JPEG leaves around it
    box = np.zeros((64, 64), bool)
    box[16:48, 16:48] = True
    sharp = stored(Image.fromarray(np.uint8(box) * 255), "JPEG", quality=95)  # few levels, and ripples all the same
    assert len(np.unique(np.asarray(Image.open(io.BytesIO(sharp))))) <= 16
    assert np.array_equal(decode_mask(sharp, "jpeg"), box)
    labels = np.uint8(box) * 3
    labels[:8] = 7
    lossless = stored(Image.fromarray(labels).convert("RGB"), "WEBP", lossless=True)
    assert np.array_equal(decode_mask(lossless, "webp"), labels > 0)
    red = stored(Image.fromarray(coloured((200, 0, 0))), "JPEG", quality=95, subsampling=0)
    assert (decode_mask(red, "jpeg") != SHAPE).sum() <= 4


def test_the_orientation_of_a_mask_is_applied():
    exif = Image.Exif()
    exif[274] = 6
    for image in (Image.fromarray(np.uint8(SHAPE) * 255), palette_image(SHAPE, VOC)):
        turned = image.transpose(Image.Transpose.ROTATE_90)
        assert np.array_equal(decode_mask(stored(turned, exif=exif), "turned"), SHAPE)


def test_a_damaged_palette_image_is_an_image_error():
    with pytest.raises(ImageError, match="voc is damaged"):
        decode_mask(HARD["palette in VOC's colours"][:-30], "voc")


@pytest.mark.parametrize("kind", ["voc", "red", "label7", "u16_255"])
def test_the_masks_that_users_brought(cases, kind, tmp_path):
    folder = cases / "masks-below-threshold"
    good, other = (
        open_dictionary(folder / name, memory_folder=tmp_path, workers=0) for name in ("good", kind)
    )  # fmt: skip
    assert other.problems == []
    for row, same in zip(good.rows, other.rows, strict=True):
        for concept, path in row.masks.items():
            expected = read_mask(good.root / path)
            assert expected.any()
            assert np.array_equal(read_mask(other.root / same.masks[concept]), expected)


# ------------------------------------------------------------------------------------------- said when something is off


@pytest.mark.usefixtures("no_pdfs")
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((40, 30), bool), "is an empty mask: every pixel is background"),
        (~SHAPE, "looks inverted: it covers 85% of the picture and 100% of its border"),
        (np.ones((40, 30), bool), "looks inverted: it covers 100% of the picture and 100% of its border"),
        (np.pad(np.ones((36, 26), bool), 2), "covers 78% of the picture"),
    ],
)
def test_a_mask_that_looks_wrong_is_named_as_what_it_is(dictionary_maker, run_main, caplog, mask, message):
    caplog.set_level("INFO")
    image = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8), (30, 40))
    dictionary_maker.add(image, {"nose": SHAPE, "mouth": mask}).write()
    run_main()
    assert f"note: Attributes.csv line 2: Attributes/000000/mouth.png {message}" in caplog.text
    assert "nose.png" not in caplog.text
