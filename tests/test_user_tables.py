"""Tables, landmarks and photographs as people bring them: read where it is clear what is meant, refused where not."""

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dictionary import build
from dictionary.check import find_problems
from dictionary.dictionary import format_of
from dictionary.landmarks import POINT_COLUMNS, doubt_landmarks
from dictionary.subgroups import find_subgroups
from dictionary.tables import read_attributes, read_groups
from rendering.landmarks import MIRROR
from rendering.random_face import random_face
from rendering.render import render
from util.errors import DissectionError


@pytest.fixture(scope="module")
def faces():
    """Eight rendered faces: {name: (image, landmarks)}."""
    return {f"face_{number}.png": render(random_face(np.random.default_rng([77, number]))) for number in range(8)}


@pytest.fixture
def workshop(tmp_path, faces):
    """A folder of photographs with their landmarks. Returns a function that builds: (tables and options) -> root."""
    (tmp_path / "images").mkdir()
    for name, (image, _) in faces.items():
        Image.fromarray(image).save(tmp_path / "images" / name)
    write_landmarks(tmp_path / "landmarks.csv", {name: points for name, (_, points) in faces.items()})

    def run(*more, **tables):
        words = ["--images", tmp_path / "images", "--out", tmp_path / "out", "--workers", "1", *more]
        for option, content in {"landmarks": None, **tables}.items():
            path = tmp_path / f"{option}.csv"
            if content is not None:
                path.write_text(content)
            words += [f"--{option}", path]
        build.main([str(word) for word in words])
        return tmp_path / "out"

    run.folder = tmp_path
    return run


def write_landmarks(path, points_of, columns=POINT_COLUMNS):
    text = io.StringIO()
    csv.writer(text).writerows([("image", *columns), *((name, *p.ravel().tolist()) for name, p in points_of.items())])
    path.write_text(text.getvalue())


NAMES = [f"face_{number}.png" for number in range(8)]


def table(header, row, separator=","):
    """A table with the same row for every face; {} stands for its name, {n} for its number."""
    lines = [header, *(row.format(name, n=number) for number, name in enumerate(NAMES))]
    return "\n".join(line.replace(",", separator) for line in lines) + "\n"


# ----------------------------------------------------------------------------------------------------------- spellings

SMILING_ALONE = {
    "True and False": table("image,Smiling,Eyeglasses", "{},True,False"),
    "TRUE and FALSE, as Excel writes them": table("image,Smiling,Eyeglasses", "{},TRUE,FALSE"),
    "numbers of a float column": table("image,Smiling,Eyeglasses", "{},1.0,0.0"),
    "yes and no": table("image,Smiling,Eyeglasses", "{},yes,no"),
    "minus one as float": table("image,Smiling,Eyeglasses", "{},1.0,-1.0"),
    "image_id, as in Kaggle's CelebA": table("image_id,Smiling,Eyeglasses", "{},1,-1"),
    "filename": table("filename,Smiling,Eyeglasses", "{},1,0"),
    "an index column": table(",image,Smiling,Eyeglasses", "{n},{},1,0"),
    "semicolons": table("image;Smiling;Eyeglasses", "{};1;0"),
    "tabs": table("image,Smiling,Eyeglasses", "{},1,0", "\t"),
    "bars": table("image,Smiling,Eyeglasses", "{},1,0", "|"),
    "capitals of the columns": table("Image,smiling,EYEGLASSES", "{},1,0"),
    "blanks around cells": table("image, Smiling , Eyeglasses", "{} , 1, 0 "),
}


@pytest.mark.parametrize("spelling", SMILING_ALONE)
def test_labels_are_read_as_people_write_them(tmp_path, spelling):
    (tmp_path / "table.csv").write_text(SMILING_ALONE[spelling])
    labels = read_attributes(tmp_path / "table.csv")
    assert labels.positive == dict.fromkeys(NAMES, ("Smiling",))
    assert labels.labelled == dict.fromkeys(NAMES, ("Attr",))
    assert labels.left_out == {}


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "None", "NULL", "n/a", "?"])
def test_what_nobody_knows_is_neither_shown_nor_lacking(tmp_path, cell):
    (tmp_path / "table.csv").write_text(table("image,AU_12,Smiling", f"{{}},1,{cell}"))
    labels = read_attributes(tmp_path / "table.csv")
    assert labels.positive[NAMES[0]] == ("AU_12",)
    assert labels.labelled[NAMES[0]] == ("AU",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (table("image,Smiling,SMILING", "{},1,0"), "Smiling has more than one column"),
        (table("image,Smiling", "{},2"), "'2' is none of 1, 0, -1 and empty"),
        (table("image,Smiling", "{},0.7"), "'0.7' is none of 1, 0, -1 and empty"),
        (table("photo,Smiling", "{},1"), "the first line must name the columns, 'image,...', found 'photo,Smiling'"),
        (table("person,image,Smiling", "x,{},1"), "the first line must name the columns"),
    ],
)
def test_labels_that_can_be_taken_for_several_things_are_refused(tmp_path, content, message):
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(DissectionError) as caught:
        read_attributes(tmp_path / "table.csv")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected", "left_out"),
    [
        (table("image,gender", "{},Female"), {"gender": "female"}, []),
        (table("image,Gender,AGE", "{},MALE,Sixty_Plus"), {"gender": "male", "age": "sixty_plus"}, []),
        (table("image,sex,skin tone", "{},f,light"), {"gender": "female", "skin_tone": "bright"}, []),
        (table("image,age,name", "{},sixty plus,Jo"), {"age": "sixty_plus"}, ["name"]),
        (table("image,age", "{},19"), {"age": "zero_to_twenty"}, []),
        (table("image,age", "{},20"), {"age": "twenty_to_forty"}, []),
        (table("image,age", "{},59.5"), {"age": "forty_to_sixty"}, []),
        (table("image,age", "{},101"), {"age": "sixty_plus"}, []),
        (
            table("file,age,gender,race,service_test", "{},more than 70,Male,East Asian,True"),
            {"age": "sixty_plus", "gender": "male", "ethnic": "asian"},
            ["service_test"],
        ),
        (table("file,age,gender,race", "{},3-9,Female,Black"),
         {"age": "zero_to_twenty", "gender": "female", "ethnic": "black"}, []),
    ],
)  # fmt: skip
def test_subgroups_are_read_as_people_write_them(tmp_path, content, expected, left_out):
    (tmp_path / "table.csv").write_text(content)
    groups = read_groups(tmp_path / "table.csv")
    assert groups.of_image == dict.fromkeys(NAMES, expected)
    assert groups.left_out == left_out and groups.without == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (table("image,gendr", "{},male"), "column 'gendr' is not a global concept; did you mean gender"),
        (table("image,name", "{},male"), "column 'name' is not a global concept"),
        (table("image,gender", "{},mle"), "'mle' is not a subgroup of gender; did you mean male"),
        (table("image,gender", "{},1"), "'1' is not a subgroup of gender"),
        (table("image,age", "{},200"), "'200' is not a subgroup of age"),
        (table("image,age", "{},-3"), "'-3' is not a subgroup of age"),
    ],
)
def test_subgroups_that_cannot_be_told_are_refused(tmp_path, content, message):
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(DissectionError) as caught:
        read_groups(tmp_path / "table.csv")
    assert message in str(caught.value)


def test_what_is_left_out_is_said(workshop, caplog):
    caplog.set_level("INFO")
    (workshop.folder / "images" / "notes.txt").write_text("nothing")
    root = workshop(
        attributes=table("image,Smiling,Height,AU01", "{},1,3,1"),
        groups=table("file,age,race,service_test", "{},20-29,Latino_Hispanic,True"),
    )
    for told in (
        "attributes.csv: no attribute and no action unit, left out: Height, AU01 (AU_1?)",
        "groups.csv: no global concept, left out: service_test",
        "groups.csv: no subgroup of the dictionary, left out: Latino_Hispanic (8 images)",
        "1 files of --images stand in no table, left out: notes.txt",
    ):
        assert told in caplog.text
    found, _ = find_subgroups(root)
    assert {concept: list(groups) for concept, groups in found.items()} == {"age": ["twenty_to_forty"]}


def test_every_labelled_photograph_has_a_row_and_readers_take_it(workshop, run_main, tmp_path):
    lines = table("image,Smiling,AU_12", "{},0,").splitlines()
    lines[1] = lines[1].replace(",0,", ",1,")
    root = workshop(attributes="\n".join(lines) + "\n")
    rows, problems = format_of(root).read_index()
    assert problems == [] and find_problems(root, workers=1)[0] == []
    of_attributes = [row for row in rows if row.where.startswith("Attributes.csv")]
    assert [list(row.masks) for row in of_attributes] == [["Smiling"], *[[]] * 7]
    assert not (root / "Action_Units.csv").exists()  # nothing is known of AU_12
    run_main(DICTIONARY=root)
    assert np.load(tmp_path / "result" / "onet_layer3_feature_size.npy")[0] == 16


@pytest.mark.parametrize(
    "name", ["bool", "float", "image_id", "index", "nan", "semicolon", "groups_capitals", "groups_fairface"]
)
def test_the_tables_that_users_brought(cases, tmp_path, name, caplog):
    caplog.set_level("INFO")
    folder = cases / "table-spellings"
    given = ["--groups", folder / f"{name}.csv"] if name.startswith("groups") else []
    given = given or ["--attributes", folder / f"attributes_{name}.csv"]
    words = ["--images", folder / "faces", "--landmarks", folder / "landmarks.csv", *given, "--out", tmp_path / "out"]
    build.main([str(word) for word in words])
    assert find_problems(tmp_path / "out", workers=1)[0] == [] or given[0] == "--groups"
    if given[0] == "--attributes":
        rows = [row for row in format_of(tmp_path / "out").read_index()[0] if row.where.startswith("Attributes")]
        assert [list(row.masks) for row in rows] == [["Smiling"]] * 8
    else:
        assert sum(map(len, find_subgroups(tmp_path / "out")[0]["gender"].values())) == 8
    if name == "groups_fairface":
        assert list(find_subgroups(tmp_path / "out")[0]["age"]) == ["twenty_to_forty"]
        assert "Latino_Hispanic (8 images)" in caplog.text and "service_test" in caplog.text


# ----------------------------------------------------------------------------------------------------------- landmarks


def turned(points, degrees):
    angle = np.radians(degrees)
    return (points - 100) @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) + 100


def test_landmarks_of_faces_are_believed_however_they_are_turned(faces):
    for _, points in faces.values():
        for degrees in (0, 30, -60, 90, 180):
            assert doubt_landmarks(turned(points, degrees), 200, 220) is None
        assert doubt_landmarks(points * 5, 900, 1100) is None
        assert doubt_landmarks(points - (60, 0), 120, 218) is None  # cut by the edge


SPOILED = {
    "shares of the picture": (lambda p: p / (178, 218), "look like shares of the picture, not pixels"),
    "shares between -1 and 1": (lambda p: 2 * p / (178, 218) - 1, "look like shares of the picture"),
    "y before x": (lambda p: p[:, ::-1], "left and right are exchanged, or y stands before x"),
    "left and right exchanged": (lambda p: p[MIRROR], "left and right are exchanged"),
    "counted from below": (lambda p: p * (1, -1) + (0, 218), "left and right are exchanged"),
    "of a picture twice as large": (lambda p: 2 * p, "is far outside the image of 178x218"),
    "of a picture thirty times smaller": (lambda p: p / 30, "gives a face of"),
    "the order of another scheme": (lambda p: np.roll(p, 20, axis=0), "68 iBUG points"),
    "shuffled": (lambda p: np.random.default_rng(1).permutation(p), "landmark|68 iBUG|exchanged"),
    "all in one point": (lambda p: 0 * p + 100, "gives a face of 0.0 px"),
    "a straight line": (lambda p: np.linspace((40, 50), (140, 160), 68), "68 iBUG|exchanged"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SPOILED)
def test_points_that_are_not_the_68_in_pixels_are_refused_with_their_line(workshop, faces, kind):
    spoil, reason = SPOILED[kind]
    points_of = {name: points for name, (_, points) in faces.items()}
    points_of["face_3.png"] = spoil(points_of["face_3.png"])
    write_landmarks(workshop.folder / "landmarks.csv", points_of)
    with pytest.raises(DissectionError, match=rf"landmarks\.csv line 5 \(face_3\.png\) .*({reason})"):
        workshop()
    assert not (workshop.folder / "out").exists()
    root = workshop("--skip-bad")
    assert len(format_of(root).read_index()[0]) == 7


def test_nothing_left_is_no_dictionary_and_replaces_none(workshop, faces):
    root = workshop()
    before = sorted(path.name for path in root.rglob("*"))
    write_landmarks(workshop.folder / "landmarks.csv", {name: points / 300 for name, (_, points) in faces.items()})
    with pytest.raises(DissectionError, match="nothing to build: no photograph is left"):
        workshop("--skip-bad", "--overwrite")
    assert sorted(path.name for path in root.rglob("*")) == before


def test_a_photograph_that_is_left_out_is_in_no_subgroup_either(workshop, faces):
    points_of = {name: points for name, (_, points) in faces.items()} | {"face_3.png": faces["face_3.png"][1] / 300}
    write_landmarks(workshop.folder / "landmarks.csv", points_of)
    root = workshop("--skip-bad", groups=table("image,gender", "{},male"))
    assert len(find_subgroups(root)[0]["gender"]["male"]) == 7


def test_more_points_than_68_are_refused(workshop, faces):
    columns = tuple(f"{axis}{number}" for number in range(98) for axis in "xy")
    points_of = {name: np.resize(points, (98, 2)) for name, (_, points) in faces.items()}
    write_landmarks(workshop.folder / "landmarks.csv", points_of, columns)
    with pytest.raises(DissectionError, match="has points up to x97,y97: 98 landmarks, not the 68 of iBUG"):
        workshop()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("106points", "has points up to x105,y105: 106 landmarks, not the 68 of iBUG"),
        ("normalised", r"line 2 \(face_0\.png\) lies within 0\.\.2: these look like shares of the picture, not pixels"),
        ("yx", r"line 2 \(face_0\.png\) has the left eye .* y stands before x"),
        ("right", None),
    ],
)
def test_the_landmarks_that_users_brought(cases, tmp_path, name, message):
    folder = cases / "landmarks-not-68-pixels"
    words = ["--images", folder / "faces", "--landmarks", folder / f"landmarks_{name}.csv", "--out", tmp_path / "out"]
    if message:
        with pytest.raises(DissectionError, match=message):
            build.main([str(word) for word in words])
    else:
        build.main([str(word) for word in words])
        assert len(format_of(tmp_path / "out").read_index()[0]) == 8


def test_real_landmarks_are_believed(congress):
    from dictionary.landmarks import read_landmarks

    landmarks, _ = read_landmarks(congress / "landmarks.csv")
    for name in sorted(landmarks)[::7]:
        with Image.open(congress / "images" / name) as image:
            assert doubt_landmarks(landmarks[name], *image.size) is None, name


# ------------------------------------------------------------------------------------------------- damaged, and endings


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"<html>",
        lambda content: content[:60],
    ],
)
def test_one_damaged_photograph_does_not_end_it_with_skip_bad(workshop, caplog, damage):
    caplog.set_level("INFO")
    path = workshop.folder / "images" / "face_2.png"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DissectionError, match=r"face_2\.png .* \(--skip-bad goes on without them\)"):
        workshop()
    root = workshop("--skip-bad")
    assert len(format_of(root).read_index()[0]) == 7 and "left out: " in caplog.text and "face_2.png" in caplog.text
    assert "a dictionary of 7 photographs" in caplog.text


class EveryFace:
    """Stands in for the detector: finds the same face everywhere."""

    def detect(self, image):
        from dictionary.landmarks import Face

        return Face((0, 0, 10, 10), render(random_face(np.random.default_rng([77, 0])))[1])


def test_every_picture_is_read_whatever_its_ending(workshop, faces, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(build, "FaceLandmarkDetector", EveryFace)
    folder = workshop.folder / "images"
    shutil.rmtree(folder)
    folder.mkdir()
    image = Image.fromarray(faces["face_0.png"][0])
    kinds = {"a.jfif": "JPEG", "b.gif": "GIF", "c.avif": "AVIF", "d.tif": "TIFF", "e": "JPEG", "f.JPG": "PNG",
             "g.jp2": "JPEG2000", "h.ppm": "PPM", "i.tga": "TGA", "j.txt": "BMP"}  # fmt: skip
    kinds = {name: kind for name, kind in kinds.items() if kind in Image.SAVE}  # AVIF came with Pillow 11.3
    for name, kind in kinds.items():
        image.save(folder / name, kind)
    (folder / "k.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (folder / "notes.md").write_text("# notes")
    (folder / ".hidden.jpg").write_bytes(b"no picture")
    (folder / "page.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(touch x) run\n")
    build.main(["--images", str(folder), "--detect", "--out", str(workshop.folder / "out")])
    rows, problems = format_of(workshop.folder / "out").read_index()
    assert sorted(Path(row.image).parent.name for row in rows) == [Path(name).stem for name in sorted(kinds)]
    assert problems == [] and find_problems(workshop.folder / "out", workers=1)[0] == []
    assert "3 files are no pictures that Pillow reads, and left out: k.HEIC, notes.md, page.eps" in caplog.text


def test_the_files_that_users_brought(cases, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    folder = cases / "one-damaged-photograph-and-endings"
    words = ["--images", folder / "faces", "--landmarks", folder / "landmarks.csv", "--out", tmp_path / "out"]
    with pytest.raises(DissectionError, match=r"face_\d\.jpg is damaged"):
        build.main([str(word) for word in words])
    build.main([*map(str, words), "--skip-bad"])
    assert len(format_of(tmp_path / "out").read_index()[0]) == 7
    monkeypatch.setattr(build, "FaceLandmarkDetector", EveryFace)
    build.main(["--images", str(folder / "endings"), "--detect", "--out", str(tmp_path / "endings")])
    assert len(format_of(tmp_path / "endings").read_index()[0]) == 4
    assert "1 files are no pictures that Pillow reads, and left out: IMG_0001.HEIC" in caplog.text
