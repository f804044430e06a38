"""The program against an independent loop, from files to probabilities, with odd files and faces cropped."""

import pickle

import cv2
import numpy as np
import pytest
from PIL import Image

import cluster_top
import nl_bias
from dictionary import render
from dictionary.concepts import REGIONS
from dictionary.dictionary import format_of
from dictionary.faces import KNOWN_FACES
from dictionary.subgroups import find_subgroups
from method.tally import Tally
from store.arrays import load_as
from tests import plain_reference
from tests.test_analyses import run  # noqa: F401 - a fixture

SIDE, QUANTILE, THRESHOLD = 64, 0.01, 0.01


def with_orientation(path, image):
    exif = Image.Exif()
    exif[274] = 8  # turned to the left to view
    image.transpose(Image.Transpose.ROTATE_270).save(path, "PNG", exif=exif)


def sixteen_bits(path, pixels):
    cv2.imwrite(str(path), np.uint16(pixels) * 257)


# What becomes of a photograph: a function of its path and its picture.
ODD_FILES = (
    with_orientation,
    lambda path, image: image.convert("L").save(path, "PNG"),
    lambda path, image: image.convert("RGBA").save(path, "PNG"),
    lambda path, image: image.quantize(200).save(path, "PNG"),
    lambda path, image: sixteen_bits(path, np.asarray(image.convert("L"))),
    lambda path, image: sixteen_bits(path, np.asarray(image)[:, :, ::-1]),
    lambda path, image: image.save(path, "JPEG", quality=98, subsampling=0),
    lambda path, image: image.save(path, "WEBP", lossless=True),
    lambda path, image: image.convert("1").save(path, "PNG"),
)


def cmyk(path, image):
    """Colours that decoders turn into RGB a level apart."""
    image.convert("CMYK").save(path, "JPEG", quality=98, subsampling=0)


@pytest.fixture
def dictionary(tmp_path):
    """A small rendered dictionary in which photographs became odd files."""
    root = tmp_path / "dictionary"
    render.main(["--images", "30", "--per-group", "4", "--seed", "5", "--out", str(root), "--workers", "1"])
    (root / KNOWN_FACES).unlink()  # so that the program looks for them, as the loop does
    of_rows = [root / row.image for row in format_of(root).read_index()[0]]
    of_groups = sorted((root / "non_localizable").rglob("*.png"))
    for images, odd in ((of_rows, (*ODD_FILES, cmyk)), (of_groups, ODD_FILES)):
        for number, path in enumerate(images[::2]):
            name = path.with_suffix(".tmp.png")
            odd[number % len(odd)](name, Image.open(path).convert("RGB"))
            name.replace(path)
    return root


def onet_layer3():
    """O-Net up to its third PReLU, and the detector, by facenet-pytorch itself."""
    from facenet_pytorch import MTCNN
    from facenet_pytorch.models.mtcnn import ONet

    network = ONet(pretrained=True).eval()

    def maps(x):
        for stage in (1, 2, 3):
            x = getattr(network, f"prelu{stage}")(getattr(network, f"conv{stage}")(x))
            if stage == 3:
                return x
            x = getattr(network, f"pool{stage}")(x)
        return x

    return maps, MTCNN(select_largest=True)


@pytest.mark.usefixtures("no_pdfs")
def test_the_program_agrees_with_an_independent_loop(dictionary, run_main, run, tmp_path):  # noqa: F811
    words = {"TASK": "onet", "TASKS": "onet", "INPUT_SIZE": SIDE, "CROP": True, "QUANTILE": QUANTILE,
             "SCORE_THRESHOLD": THRESHOLD, "SKIP_BAD_IMAGES": True, "TOPN": 1}  # fmt: skip
    result = run_main(**words)
    run(nl_bias, PLOT=False, **words)
    run(cluster_top, **words)
    tally = load_as(Tally, result / "onet_layer3_tally.npz")
    size = tuple(np.load(result / "onet_layer3_feature_size.npy"))
    stored = np.memmap(result / "onet_layer3.mmap", np.float32, "r", shape=size)

    network, detector = onet_layer3()
    rows, boxes, maps = format_of(dictionary).read_index()[0], [], np.full(size, np.nan, np.float32)
    seen = []
    for row in rows:
        image = plain_reference.read_image(dictionary / row.image)
        found, _ = detector.detect(Image.fromarray(image))
        assert (found is None) == np.isnan(stored[row.index]).any()
        boxes.append(None if found is None else plain_reference.find_box(detector, image))
        if found is not None:
            seen.append(row.index)
            maps[row.index] = plain_reference.maps_of(network, image, boxes[-1], SIDE)
    assert len(seen) >= 25
    worst = np.abs(maps[seen] - stored[seen]).max(axis=(1, 2, 3)) / np.abs(stored[seen]).max()
    of_cmyk = [Image.open(dictionary / rows[image].image).mode == "CMYK" for image in seen]
    assert sum(of_cmyk) >= 1
    assert worst[~np.array(of_cmyk)].max() < 1e-5

    # From here on with the program's own maps, so that a level of one JPEG does not move every threshold.
    maps = np.array(stored)
    units = np.argsort(-tally.tally.max(axis=1), kind="stable")[:8].tolist() + [0, 31]
    names = [str(name) for name in tally.concepts]
    carries = np.array([[name in row.masks and row.index in seen for name in names] for row in rows])
    assert np.array_equal(carries, tally.carries)
    grids = {
        (row.index, name): plain_reference.resize_mask(
            (np.asarray(Image.open(dictionary / path)) > 0)[boxes[row.index][1] : boxes[row.index][3],
                                                            boxes[row.index][0] : boxes[row.index][2]], (SIDE, SIDE))
        for row in rows if row.index in seen for name, path in row.masks.items()
    }  # fmt: skip
    differing = cells = 0
    overlaps = np.zeros((len(units), len(names)))
    for place, unit in enumerate(units):
        limit = np.quantile(maps[seen, unit].astype(np.float64), 1 - QUANTILE)
        assert limit == tally.thresholds[unit]
        counts = np.zeros((2, len(names)), int)
        for image in seen:
            lit = plain_reference.active(maps[image, unit], limit, SIDE)
            for concept in np.flatnonzero(carries[image]):
                grid = grids[image, names[concept]]
                counts[:, concept] += (lit & grid).sum(), (lit | grid).sum()
        program = np.array([tally.intersection[unit], tally.union[unit]])
        assert np.abs(counts - program).max() <= 2  # pixels that torch's interpolation rounds onto the threshold
        differing, cells = differing + int((counts != program).sum()), cells + counts.size
        overlaps[place] = counts[0] / np.maximum(counts[1], 1)
    assert differing <= 0.01 * cells

    found = pickle.loads((result / "onet_layer3_unit_concept_probs.pkl").read_bytes())
    checked = 0
    for place, unit in enumerate(units):
        if unit in found and found[unit]:
            top = names[int(np.argmax(overlaps[place]))]
            (region,) = [of for of in REGIONS.values() if top in of]
            columns = [names.index(name) for name in names if name in region]
            expected = plain_reference.hierarchy_of(
                maps[seen][:, unit], carries[seen][:, columns], overlaps[place][columns]
            )
            assert list(found[unit].values()) == pytest.approx(expected, abs=1e-4)
            checked += 1
    assert checked >= 4
    bias_agrees(dictionary, network, detector, tmp_path / "global")


def bias_agrees(dictionary, network, detector, folder):
    """§5, from the subgroups' own files."""
    content = pickle.loads((folder / "onet_layer3_nl_probs.pkl").read_bytes())
    for concept, groups in find_subgroups(dictionary)[0].items():
        maps, sizes = [], []
        for paths in groups.values():
            images = [plain_reference.read_image(dictionary / path) for path in paths]
            images = [image for image in images if detector.detect(Image.fromarray(image))[0] is not None]
            boxes = [plain_reference.find_box(detector, image) for image in images]
            maps += [
                plain_reference.maps_of(network, image, box, SIDE) for image, box in zip(images, boxes, strict=True)
            ]
            sizes.append(len(images))
        assert min(sizes) >= 1
        expected = np.array([plain_reference.bias_of(np.array(maps)[:, unit], sizes) for unit in range(64)])
        found = np.array([list(content[unit][concept].values()) for unit in range(64)])
        # In twins peaks may agree up to rounding, and which is the higher is then a matter of the batch.
        assert (np.abs(found - expected) < 1e-4).mean() > 0.9
        assert np.abs(found - expected).max() < 0.1
