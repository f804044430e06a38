"""Reading and checking a dictionary: the published formats, and everything that can be wrong with one."""

import csv
import os
import shutil
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dictionary.check import find_problems
from dictionary.check import main as check_main
from dictionary.concepts import FACE_CONCEPTS, LOCAL_CONCEPTS, REGIONS, explained
from dictionary.dictionary import format_of, open_dictionary
from dictionary.images import load_image, load_mask, load_rgb
from dictionary.subgroups import find_subgroups
from dictionary.views import Part, resize_image, resize_mask
from tests.conftest import DictionaryMaker
from util.errors import DissectionError, nearest

IMAGE = np.full((10, 8, 3), 90, np.uint8)
MASK = np.eye(10, 8, dtype=bool)


def opened(root, **options):
    return open_dictionary(root, memory_folder=root.parent / "cache", workers=2, **options)


@pytest.fixture
def three_rows(dictionary_maker):
    """Three sound rows: the first row of Attributes.csv, of Action_Units.csv and of Parts.csv."""
    dictionary_maker.add(IMAGE, {"Smiling": MASK, "Big_Nose": MASK})
    dictionary_maker.add(IMAGE, {"AU_12": MASK}, "Action_Units.csv")
    dictionary_maker.add(IMAGE, {"nose": MASK}, "Parts.csv")
    return dictionary_maker.write()


def append(root, line, file="Parts.csv"):
    with open(root / file, "a", encoding="utf-8") as index:
        index.write(line + "\n")


# --------------------------------------------------------------------------------------------------------- the tables


def test_there_are_38_concepts_each_in_one_region():
    assert len(LOCAL_CONCEPTS) == len(set(LOCAL_CONCEPTS)) == 38
    assert sum(len(concepts) for concepts in REGIONS.values()) == 38
    assert all(concept.name in REGIONS[concept.region] for concept in FACE_CONCEPTS)
    assert nearest("smilling", LOCAL_CONCEPTS) == ["Smiling"]


# --------------------------------------------------------------------------------------------------------- sound ones


def test_rows_are_numbered_over_the_files_in_their_order(three_rows):
    dictionary = opened(three_rows)
    assert [list(row.masks) for row in dictionary.rows] == [["Smiling", "Big_Nose"], ["AU_12"], ["nose"]]
    assert dictionary.names == ("AU_12", "nose", "Big_Nose", "Smiling")
    assert dictionary.problems == []


def test_concepts_are_matched_by_their_whole_name(dictionary_maker):
    dictionary_maker.add(IMAGE, {"AU_12": MASK}).add(IMAGE, {"AU_1": MASK})
    assert [list(row.masks) for row in opened(dictionary_maker.write()).rows] == [["AU_12"], ["AU_1"]]


def test_any_subset_of_the_index_files_will_do(three_rows):
    (three_rows / "Attributes.csv").unlink()
    (three_rows / "Parts.csv").unlink()
    assert opened(three_rows).names == ("AU_12",)


def test_content_decides_not_the_name(three_rows):
    folder = three_rows / "Attributes" / "000000"
    cv2.imwrite(str(folder / "a.jpg"), IMAGE)
    (folder / "a.jpg").rename(folder / "original.png")
    Image.new("L", (8, 10), 70).save(three_rows / "Parts" / "000002" / "original.png")
    Image.fromarray(np.dstack([MASK] * 3).astype(np.uint8) * 255).save(folder / "Smiling.png")
    assert opened(three_rows).problems == []
    assert load_rgb(folder / "original.png").shape == (10, 8, 3)
    gray = load_rgb(three_rows / "Parts" / "000002" / "original.png")
    assert (gray == 70).all()
    assert gray.shape == (10, 8, 3)
    assert np.array_equal(load_mask(folder / "Smiling.png", (10, 10)), resize_mask(MASK, (10, 10)))


def test_the_orientation_that_a_camera_notes_is_applied(tmp_path):
    picture = np.zeros((10, 20, 3), np.uint8)
    picture[:, :10] = 255
    exif = Image.Exif()
    exif[274] = 6  # turn right to view: the left side goes to the top
    Image.fromarray(picture).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    seen = load_rgb(tmp_path / "turned.jpg")
    assert seen.shape == (20, 10, 3)
    assert seen[:8].min() > 200
    assert seen[12:].max() < 50


def test_masks_are_resized_by_nearest_neighbour_at_pixel_centres():
    assert resize_mask(np.arange(3)[:, None] * np.ones((1, 3), int), (2, 2))[:, 0].tolist() == [0, 2]
    assert resize_mask(np.array([[1, 2], [3, 4]]), (4, 4))[0].tolist() == [1, 1, 2, 2]


def test_image_and_mask_are_cut_by_the_same_box(tmp_path):
    image = np.zeros((30, 40, 3), np.uint8)
    image[10:20, 15:35] = 255
    cv2.imwrite(str(tmp_path / "image.png"), image)
    view = Part((15, 5, 35, 25))
    seen = load_image(tmp_path / "image.png", (20, 20), view)
    assert np.array_equal(seen[:, :, 0] > 127, load_mask(tmp_path / "image.png", (20, 20), view))
    assert (seen[5:15] == 255).all()
    assert not seen[:4].any()


def test_shrinking_averages_what_each_pixel_covers():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert (resize_image(stripes, (16, 16)) == 100).all()


def test_the_published_sample_is_read(tmp_path):
    sample = Path(__file__).resolve().parents[2] / "shared" / "face_dictionary_sample"
    if not sample.is_dir():
        pytest.skip("the published sample (../shared/face_dictionary_sample) is not there")
    rows, problems = format_of(sample).read_index()
    assert problems == []
    assert len(rows) == 24632
    assert sum(len(row.masks) for row in rows) == 103853
    lines = [("image", "labels")]
    for image in sorted(sample.glob("*/*/original.png")):
        names = [f"{concept}.png" for concept in LOCAL_CONCEPTS if (image.parent / f"{concept}.png").exists()]
        folder = image.parent.relative_to(sample).as_posix()
        shutil.copytree(image.parent, tmp_path / "sample" / folder)
        lines.append((f"{folder}/original.png", ";".join(f"{folder}/{name}" for name in names)))
    with open(tmp_path / "sample" / "Parts.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    dictionary = opened(tmp_path / "sample")
    assert len(dictionary.usable_rows) == 3
    assert dictionary.problems == []
    assert len(dictionary.concepts) == 17


# ---------------------------------------------------------------------------------------------------------- bad ones


def test_no_dictionary(tmp_path):
    with pytest.raises(DissectionError, match=r"no Face Dictionary at .*nowhere: set DICTIONARY"):
        opened(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DissectionError, match="at least one of Attributes.csv, .*, and Broden has index.csv"
    ):
        opened(tmp_path / "empty")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column 'image' and no column 'labels'.*found 'nothing'"),
        (b"image,masks\na,b\n", "has no column 'labels'.*must be 'image,labels', found 'image,masks'"),
        (b"image;labels\na;b\n", "has no column 'image'"),
        (b"image,labels\n\xff\xfe,x\n", "cannot read .*Parts.csv: .*utf-8"),
        (b"image,labels\n" + b"x" * 200_000 + b",b\n", "cannot read .*Parts.csv: field larger"),
    ],
)
def test_an_index_that_is_none(three_rows, content, message):
    (three_rows / "Parts.csv").write_bytes(content)
    with pytest.raises(DissectionError, match=message):
        opened(three_rows)


def test_an_index_that_is_a_folder(three_rows):
    (three_rows / "Parts.csv").unlink()
    (three_rows / "Parts.csv").mkdir()
    with pytest.raises(DissectionError, match=r"cannot read .*Parts.csv"):
        opened(three_rows)


IMAGE_PATH, MASK_PATH = "Parts/000002/original.png", "Parts/000002/nose.png"


def png_of_size(width, height):
    """A PNG that says it is large and holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("path", [IMAGE_PATH, MASK_PATH])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "{} is missing"),
        (lambda file: file.write_bytes(b""), "{} is an empty file"),
        (lambda file: file.write_bytes(b"<html>not found</html>"), "{} is not a readable image"),
        (lambda file: file.write_bytes(file.read_bytes()[:-30]), "{} is damaged"),
        (lambda file: file.write_bytes(png_of_size(60_000, 60_000)), "{} is too large"),
        (lambda file: (file.unlink(), file.mkdir()), "cannot read {}"),
    ],
)
def test_a_file_that_cannot_be_used(three_rows, path, damage, message):
    damage(three_rows / path)
    with pytest.raises(DissectionError) as caught:
        opened(three_rows)
    text = str(caught.value)
    assert "1 of the 3 rows" in text
    assert f"Parts.csv line 2: {message.format(path)}" in text
    assert "SKIP_BAD_IMAGES=True" in text
    assert "python -m dictionary.check" in text
    dictionary = opened(three_rows, skip_bad=True)
    assert dictionary.usable.tolist() == [True, True, False]
    assert dictionary.names == ("AU_12", "Big_Nose", "Smiling")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Parts/000002/original.png,Parts/000002/noes.png", "unknown concept 'noes', did you mean"),
        ("../secret.png,Parts/000002/nose.png", "../secret.png leads out of the dictionary"),
        ("Parts/000002/original.png,../000002/nose.png", "../000002/nose.png leads out of the dictionary"),
        ("/etc/secret.png,Parts/000002/nose.png", "/etc/secret.png leads out of the dictionary"),
        ("Parts/000002/original.png", "expected the two fields"),
        ("Parts/000002/original.png,a/nose.png,b/mouth.png", "expected the two fields image and labels: separate the"),
        (",Parts/000002/nose.png", "names no image"),
        ("Parts/000002/original.png,a/nose.png;b/nose.png", "b/nose.png: a second mask of nose"),
        ("Parts/000002/original.png,Parts/000002/nose.png", "stands already at Parts.csv line 2"),
    ],
)
def test_a_row_that_cannot_be_used(three_rows, line, message):
    append(three_rows, line)
    with pytest.raises(DissectionError) as caught:
        opened(three_rows)
    assert "Parts.csv line 3: " in str(caught.value)
    assert message in str(caught.value)
    assert opened(three_rows, skip_bad=True).usable.tolist() == [True, True, True, False]


def test_masks_with_transparency_are_refused(three_rows):
    for mode, channels in (("RGBA", 4), ("LA", 2)):
        Image.fromarray(np.dstack([np.uint8(MASK) * 255] * channels), mode).save(three_rows / MASK_PATH)
        with pytest.raises(DissectionError, match=f"{MASK_PATH} has transparency"):
            opened(three_rows)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes among its files")
def test_a_pipe_is_no_image(three_rows):
    (three_rows / MASK_PATH).unlink()
    os.mkfifo(three_rows / MASK_PATH)
    with pytest.raises(DissectionError, match=f"cannot read {MASK_PATH}: it is not a file"):
        opened(three_rows)


def test_an_index_without_rows(three_rows):
    for file in three_rows.glob("*.csv"):
        file.write_text("image,labels\n")
    with pytest.raises(DissectionError, match="the index of .* has no rows"):
        opened(three_rows)


def test_sizes_that_differ(three_rows):
    cv2.imwrite(str(three_rows / MASK_PATH), np.zeros((5, 6), np.uint8))
    with pytest.raises(DissectionError, match=f"{MASK_PATH} is 6x5 but its image is 8x10"):
        opened(three_rows)


def test_no_masks_at_all(dictionary_maker):
    dictionary_maker.add(IMAGE, {}).add(IMAGE, {})
    with pytest.raises(DissectionError, match="has no masks in its 2 rows"):
        opened(dictionary_maker.write())


def test_nothing_left_after_leaving_out(three_rows):
    for image in three_rows.glob("*/*/original.png"):
        image.unlink()
    with pytest.raises(DissectionError, match="none of the 3 rows of .* can be used"):
        opened(three_rows, skip_bad=True)


def test_many_problems_are_counted_and_the_first_shown(dictionary_maker):
    for _ in range(12):
        dictionary_maker.add(IMAGE, {"nose": MASK})
    root = dictionary_maker.write()
    for mask in root.glob("*/*/nose.png"):
        mask.unlink()
    with pytest.raises(DissectionError) as caught:
        opened(root)
    assert "12 of the 12 rows" in str(caught.value)
    assert "and 7 more" in str(caught.value)
    assert str(caught.value).count("is missing") == 5


# --------------------------------------------------------------------------------------------- memory and fingerprints


def test_an_unchanged_file_is_not_decoded_twice_and_a_changed_one_is(three_rows, monkeypatch):
    opened(three_rows)
    decoded = []
    monkeypatch.setattr("dictionary.file_memory.read_bytes", lambda path: decoded.append(path) or path.read_bytes())
    opened(three_rows)
    assert decoded == []
    cv2.imwrite(str(three_rows / IMAGE_PATH), IMAGE + 1)
    opened(three_rows)
    assert decoded == [three_rows / IMAGE_PATH]


@pytest.mark.parametrize("content", [b"", b"[]", b"\x00" * 5000, b"SQLite format 3\x00" + b"x" * 9000, None])
def test_a_damaged_memory_is_not_believed(three_rows, content, caplog):
    caplog.set_level("INFO")
    opened(three_rows)
    (memory,) = (three_rows.parent / "cache").glob("*_files.sqlite")
    if content is None:
        content = memory.read_bytes()[:5000]
    memory.write_bytes(content)
    assert opened(three_rows).problems == []
    assert bool(content) == ("every file of the dictionary is checked again" in caplog.text)


def test_fingerprints_follow_the_content_and_not_the_place(three_rows, tmp_path):
    before = opened(three_rows)
    elsewhere = opened(shutil.copytree(three_rows, tmp_path / "elsewhere"))
    assert (elsewhere.images_digest, elsewhere.masks_digest) == (before.images_digest, before.masks_digest)
    cv2.imwrite(str(three_rows / MASK_PATH), np.uint8(~MASK) * 255)
    mask_changed = opened(three_rows)
    assert mask_changed.images_digest == before.images_digest
    assert mask_changed.masks_digest != before.masks_digest
    cv2.imwrite(str(three_rows / IMAGE_PATH), IMAGE + 1)
    assert opened(three_rows).images_digest != before.images_digest


# ------------------------------------------------------------------------------------------------------------ check.py


def test_the_check_lists_everything_in_one_pass(three_rows, capsys, monkeypatch):
    append(three_rows, "Parts/000009/original.png,Parts/000009/nose.png;Parts/000009/Smilng.png")
    cv2.imwrite(str(three_rows / "Attributes/000000/Big_Nose.png"), np.zeros((10, 8), np.uint8))
    cv2.imwrite(str(three_rows / "Attributes/000000/Smiling.png"), np.uint8(~MASK) * 77)
    for folder in ("Gender/Male", "Gender/Female", "Gender/Other", "Height/tall"):
        (three_rows / "non_localizable" / folder).mkdir(parents=True)
    (three_rows / "non_localizable/Gender/Male/a.jpg").write_bytes(b"broken")
    problems, summary = find_problems(three_rows, workers=2)
    texts = "\n".join(map(str, problems))
    for expected in (
        "Parts.csv line 3: Parts/000009/Smilng.png: unknown concept 'Smilng', did you mean Smiling?",
        "Parts/000009/original.png is missing",
        "Parts/000009/nose.png is missing",
        "Attributes/000000/Big_Nose.png is an empty mask",
        "Attributes/000000/Smiling.png looks inverted: it covers 90% of the picture and 92% of its border",
        "non_localizable/Gender/Other: unknown subgroup of gender, known: Male, Female (one of the dictionary's own",
        "non_localizable/Height: unknown global concept, known: Age, Gender",
        "non_localizable: subgroup female of gender has no images",
        "non_localizable: non_localizable/Gender/Male/a.jpg is not a readable image",
    ):
        assert expected in texts
    assert summary[0] == "4 images, 5 masks of 4 concepts"
    assert "gender: male 1, female 0" in summary
    assert "global concepts without images: age, ethnic, skin_tone" in summary
    monkeypatch.setattr("sys.argv", ["check.py", str(three_rows)])
    with pytest.raises(SystemExit) as ended:
        check_main()
    assert ended.value.code == 1
    assert "6 errors, 3 notes" in capsys.readouterr().out


def test_a_sound_dictionary_passes_the_check(three_rows, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["check.py", str(three_rows)])
    with pytest.raises(SystemExit) as ended:
        check_main()
    assert ended.value.code == 0
    assert "0 errors, 0 notes" in capsys.readouterr().out


def test_subgroups_keep_the_order_of_the_table(tmp_path):
    maker = DictionaryMaker(tmp_path / "dictionary")
    root = maker.add(IMAGE, {"nose": MASK}).write()
    for group in ("sixty_plus", "twenty_to_forty"):
        folder = root / "non_localizable" / "Age" / group
        folder.mkdir(parents=True)
        for name in ("b.jpg", "a.jpg", ".hidden", "__c.jpg"):
            (folder / name).write_bytes(b"x")
    groups = find_subgroups(root)[0]
    assert list(groups) == ["age"]
    assert list(groups["age"]) == ["twenty_to_forty", "sixty_plus"]
    assert groups["age"]["sixty_plus"] == [f"non_localizable/Age/sixty_plus/{name}.jpg" for name in ("__c", "a", "b")]


def test_names_that_do_not_speak_for_themselves_are_explained():
    assert all(explained(name) for name in LOCAL_CONCEPTS if name.startswith(("AU_", "left_", "right_")))
    assert explained("AU_1") == explained("au01") == "inner brow raiser" and explained("AU12") == "lip corner puller"
    assert explained("left_eye") == "on the person's right"  # left_* is left in the image
    for other in ("nose", "Smiling", "AU_99", "AU_1_strong", "left_hand"):  # the last is of a dictionary of one's own
        assert explained(other) == "", other
