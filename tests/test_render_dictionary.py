"""Dictionaries of rendered faces: the published layout, exact masks and labels, the same bytes again, first use."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import settings
from dictionary import render as render_dictionary
from dictionary.check import find_problems
from dictionary.concepts import GLOBAL_CONCEPTS, LOCAL_CONCEPTS, LOCAL_CONCEPTS_BY_TYPE
from dictionary.contact_sheet import write_contact_sheet
from dictionary.dictionary import format_of
from dictionary.ellipses import ELLIPSE_RULES
from dictionary.entries import CONTACT_SHEET, RECIPE
from dictionary.faces import KNOWN_FACES, face_finder, find_faces
from dictionary.images import load_rgb, read_mask
from dictionary.render import group_jobs, local_face, local_jobs
from dictionary.subgroups import GLOBAL_FOLDER, find_subgroups
from rendering.landmarks import draw_mask
from rendering.random_face import DRAWN_GROUPS
from rendering.render import render
from util.errors import DissectionError
from util.files import digest
from util.parallel import ordered_map

REPOSITORY = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "dictionary.render"]
IMAGES, PER_GROUP = 90, 6


def rendered(out, *words):
    """Render in this process. Returns out."""
    render_dictionary.main(["--out", str(out), "--workers", "1", *map(str, words)])
    return out


def contents(root):
    """{path relative to root: bytes} of all files."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory):
    return rendered(tmp_path_factory.mktemp("rendered") / "dictionary", "--images", IMAGES, "--per-group", PER_GROUP)


# ----------------------------------------------------------------------------------------------------------- the files


def test_nothing_is_wrong_with_it_and_all_concepts_are_there(dictionary):
    problems, _ = find_problems(dictionary, workers=2)
    assert problems == []
    rows, _ = format_of(dictionary).read_index()
    assert {concept for row in rows for concept in row.masks} == set(LOCAL_CONCEPTS)
    assert Counter(row.where.split()[0] for row in rows) == {
        "Attributes.csv": IMAGES * 2 // 5, "Action_Units.csv": IMAGES * 2 // 5, "Parts.csv": IMAGES // 5,
    }  # fmt: skip


def test_masks_and_labels_are_those_of_the_face(dictionary):
    rows = {row.image: row for row in format_of(dictionary).read_index()[0]}
    folders = {"Attr": "attributes", "AU": "AU", "Parts": "parts"}
    for job in local_jobs(IMAGES):
        face = local_face(job, seed=0)
        image, landmarks = render(face)
        row = rows[f"{folders[job.kind]}/{job.number:06d}/original.png"]
        np.testing.assert_array_equal(load_rgb(dictionary / row.image), image)
        of_kind = set(LOCAL_CONCEPTS_BY_TYPE[job.kind])
        assert set(row.masks) == (of_kind if job.kind == "Parts" else of_kind & set(face.shown))
        assert job.must_show is None or job.must_show in row.masks
        for concept, path in row.masks.items():
            expected = draw_mask(ELLIPSE_RULES[concept], landmarks, 218, 178) > 0
            np.testing.assert_array_equal(read_mask(dictionary / path), expected)


def test_subgroups_are_there_and_ethnic_ones_are_not(dictionary):
    found = find_subgroups(dictionary)[0]
    assert {concept: tuple(groups) for concept, groups in found.items()} == {
        concept: tuple(GLOBAL_CONCEPTS[concept].groups) for concept in ("age", "gender", "skin_tone")
    }
    assert all(len(images) == PER_GROUP for groups in found.values() for images in groups.values())
    assert not (dictionary / GLOBAL_FOLDER / GLOBAL_CONCEPTS["ethnic"].folder).exists()
    brightness = {
        group: np.mean([load_rgb(dictionary / image)[85:130, 65:112].mean() for image in images])
        for group, images in found["skin_tone"].items()
    }
    assert brightness["bright"] > 1.3 * brightness["dark"]


def test_the_default_has_the_numbers_that_are_promised():
    jobs = local_jobs(1000)
    assert Counter(job.kind for job in jobs) == {"Attr": 400, "AU": 400, "Parts": 200}
    least = Counter(job.must_show for job in jobs if job.must_show)
    assert all(least[concept] >= 22 for concept in set(LOCAL_CONCEPTS) - set(LOCAL_CONCEPTS_BY_TYPE["Parts"]))
    groups = group_jobs(200)
    assert len(groups) == 200 * 8
    for concept, names in DRAWN_GROUPS.items():
        for name in names:
            members = [job.subgroups for job in groups if job.concept == concept and job.subgroups[concept] == name]
            assert len(members) == 200
            for other in set(DRAWN_GROUPS) - {concept}:  # no concept comes with more of another's subgroups
                assert len(set(Counter(member[other] for member in members).values())) == 1
    assert local_jobs(1000)[:40] == local_jobs(40)  # more images only add to fewer


def test_a_few_images_already_show_every_concept():
    jobs = local_jobs(IMAGES)
    assert {job.must_show for job in jobs if job.must_show} == set(LOCAL_CONCEPTS) - set(
        LOCAL_CONCEPTS_BY_TYPE["Parts"]
    )


def test_the_same_seed_gives_the_same_bytes_whatever_the_workers(tmp_path, dictionary):
    words = ["--images", IMAGES, "--per-group", PER_GROUP]
    assert contents(rendered(tmp_path / "again", *words, "--workers", 2)) == contents(dictionary)
    other = contents(rendered(tmp_path / "other", "--images", 5, "--per-group", 0, "--seed", 1))
    same_name = contents(dictionary)
    images = [name for name in other if name.endswith("original.png")]
    assert len(images) == 5
    assert all(other[name] != same_name[name] for name in images)


def test_one_image_and_no_groups_are_enough(tmp_path):
    out = rendered(tmp_path / "one", "--images", 1, "--per-group", 0)
    assert sorted(path.name for path in out.iterdir()) == ["Parts.csv", CONTACT_SHEET, KNOWN_FACES, "parts", RECIPE]


def test_pictures_for_people(tmp_path):
    out = rendered(tmp_path / "pictures", "--images", 1, "--per-group", 0, "--pictures")
    names = {path.name for path in (out / "parts" / "000000").iterdir()}
    assert {"lm.png", "nose_overlap.png", "nose.png"} <= names
    assert find_problems(out, workers=1)[0] == []


def test_the_contact_sheet_shows_every_concept_with_its_mask(tmp_path, dictionary):
    sheet = load_rgb(dictionary / CONTACT_SHEET)
    blocks = len(LOCAL_CONCEPTS) + 8
    assert sheet.shape[0] >= -(-blocks // 4) * 164
    for colour in ((255, 220, 0), (0, 220, 255), (120, 255, 90)):  # outlines of eye, nose and chin region
        assert (np.abs(sheet.astype(int) - colour).sum(axis=2) < 60).sum() > 50
    # Any dictionary has one, with pictures of any size, as soon as it has a mask.
    (tmp_path / "own").mkdir()
    mask = np.zeros((40, 300), np.uint8)
    mask[10:20, 50:200] = 255
    cv2.imwrite(str(tmp_path / "own" / "a.png"), np.full((40, 300, 3), 90, np.uint8))
    cv2.imwrite(str(tmp_path / "own" / "nose.png"), mask)
    (tmp_path / "own" / "Parts.csv").write_text("image,labels\na.png,nose.png\n")
    write_contact_sheet(tmp_path / "own", tmp_path / "sheet.png")
    assert load_rgb(tmp_path / "sheet.png").min() == 0


# ---------------------------------------------------------------------------------------------------- the command line


def script(*words, **options):
    return subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=120, cwd=REPOSITORY, **options
    )


def test_it_runs_as_a_script_with_processes(tmp_path):
    done = script("--images", 10, "--per-group", 1, "--out", tmp_path / "out", "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"{tmp_path / 'out'}: a dictionary of 18 rendered faces\n")
    assert "  non_localizable/Gender: male 1, female 1\n" in done.stderr
    assert "%" not in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_it_starts_without_the_heavy_libraries():
    heavy = ("torch", "facenet_pytorch", "matplotlib", "settings")
    program = f"import sys, dictionary.render; print(sorted(sys.modules.keys() & set({heavy})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    "words, message",
    [
        (("--images", 10**9), "--images is 1000000000: it must be from 1 to 1000000"),
        (("--images", 0), "--images is 0: it must be from 1 to 1000000"),
        (("--per-group", -1), "--per-group is -1: it must be from 0 to"),
        (("--seed", -1), "--seed is -1: it must be from 0 to"),
        (("--workers", 0), "--workers is 0: it must be from 1 to 256"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(tmp_path, words, message):
    with pytest.raises(DissectionError, match=message):
        rendered(tmp_path / "out", *words)
    assert list(tmp_path.iterdir()) == []


def test_only_a_dictionary_is_replaced_and_only_on_request(tmp_path):
    out = rendered(tmp_path / "out", "--images", 1, "--per-group", 0)
    before = contents(out)
    with pytest.raises(DissectionError, match="not empty: choose another, or add --overwrite"):
        rendered(out, "--images", 2, "--per-group", 0)
    assert contents(out) == before
    rendered(out, "--images", 2, "--per-group", 0, "--overwrite")
    assert (out / "attributes").is_dir()
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(DissectionError, match="not replaced: thesis.tex is no part of a dictionary"):
        rendered(out, "--images", 1, "--per-group", 0, "--overwrite")
    assert (out / "thesis.tex").read_text() == "mine"


def test_nothing_of_the_user_s_is_replaced_below_the_top_either(tmp_path):
    out = rendered(tmp_path / "out", "--images", 2, "--per-group", 1)
    for place in ("non_localizable/thesis.txt", "non_localizable/grayscale/a.png", "non_localizable/Age/old/a.png",
                  "parts/notes.txt", "parts/000000/notes.txt"):  # fmt: skip
        (out / place).parent.mkdir(exist_ok=True)
        (out / place).write_text("mine")
        with pytest.raises(DissectionError, match="is no part of a dictionary"):
            rendered(out, "--images", 1, "--overwrite")
        (out / place).unlink()
        if not list((out / place).parent.iterdir()):
            (out / place).parent.rmdir()
    (out / ".DS_Store").write_text("")
    rendered(out, "--images", 1, "--per-group", 0, "--overwrite")


def test_hidden_files_of_the_user_s_are_not_replaced(tmp_path):
    (tmp_path / "out" / ".git").mkdir(parents=True)
    with pytest.raises(DissectionError, match="not empty"):
        rendered(tmp_path / "out", "--images", 1)
    with pytest.raises(DissectionError, match="not replaced: .git is no part of a dictionary"):
        rendered(tmp_path / "out", "--images", 1, "--overwrite")
    assert (tmp_path / "out" / ".git").is_dir()


def test_a_worker_that_is_killed_ends_the_run_with_one_line(tmp_path):
    process = started(tmp_path)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        os.killpg(process.pid, signal.SIGKILL)
        pytest.skip("this system does not list the children of a process")
    workers = [
        pid for pid in children.read_text().split() if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(int(workers[0]), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "error: a process was ended from outside, probably for lack of memory" in errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", [".", "", "/", ".."])
def test_the_folder_one_is_in_is_not_replaced(tmp_path, monkeypatch, out):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(DissectionError, match="is the folder you are in, or holds it"):
        rendered(out, "--images", 1)


def test_a_place_that_cannot_be_told_is_one_line(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(DissectionError, match="cannot tell where --out .*loop is"):
        rendered(tmp_path / "loop", "--images", 1)


def started(tmp_path, *words):
    """A run in a process group of its own, as a terminal starts one, that has begun to write."""
    command = [*COMMAND, "--images", 4000, "--out", tmp_path / "out", "--workers", 2, *words]
    process = subprocess.Popen(
        list(map(str, command)),
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    partial = tmp_path / ".out.partial"
    while process.poll() is None and not list(partial.glob("*/*/original.png")):
        time.sleep(0.02)
    assert process.poll() is None, process.stderr.read()
    return process


def alive(group):
    """Whether any process of a process group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(group):
    deadline = time.monotonic() + 10
    while alive(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(group), "workers outlive their parent"


@pytest.fixture
def ctrl_c_works():
    """Ctrl-C reaches this process and those that it starts, even where pytest was started to ignore it, as by nohup."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_works")
def test_ctrl_c_ends_it_with_one_line_and_leaves_nothing(tmp_path):
    process = started(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "\nstopped\n"
    assert list(tmp_path.iterdir()) == []
    wait_until_gone(process.pid)


def held_back(_):
    """Whether Ctrl-C is held back from the process that computes this."""
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.usefixtures("ctrl_c_works")
@pytest.mark.parametrize("by", ["main thread", "another"])
def test_ctrl_c_while_processes_start_is_not_lost_and_is_the_parents_alone(by):
    taken = []  # items of the pool, the first of which are taken while its processes start
    through = threading.Event()
    other = threading.Thread(target=through.wait, daemon=True)  # a process's signals go to any of its threads
    other.start()
    thread = other if by == "another" else threading.main_thread()

    def items():
        for item in range(6):
            if item == 1:
                signal.pthread_kill(thread.ident, signal.SIGINT)
                time.sleep(0.1)  # in which it would interrupt
            taken.append(item)
            yield item

    with pytest.raises(KeyboardInterrupt):
        list(ordered_map(held_back, items(), 2, processes=True))
    assert 1 < len(taken) < 6
    assert list(ordered_map(held_back, range(4), 2, processes=True)) == [True] * 4
    assert not held_back(None)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    through.set()


def test_a_killed_run_takes_its_workers_along_and_the_next_one_works(tmp_path):
    process = started(tmp_path)
    process.kill()
    process.communicate(timeout=30)
    wait_until_gone(process.pid)
    assert not (tmp_path / "out").exists()
    out = rendered(tmp_path / "out", "--images", 3, "--per-group", 0)
    assert len(format_of(out).read_index()[0]) == 3
    assert list(tmp_path.iterdir()) == [out]


def test_two_runs_do_not_make_the_same_folder_at_once(tmp_path):
    process = started(tmp_path)
    try:
        done = script("--images", 1, "--out", tmp_path / "out")
        assert done.returncode == 2
        assert done.stderr.startswith("error: another run is making ")
        assert (tmp_path / ".out.partial").is_dir()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


# -------------------------------------------------------------------------------------------------------- on first use


def start_renderers_by(start, monkeypatch):
    """Have ensure_rendered start its process by a function of the command."""
    own = SimpleNamespace(Popen=start, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(render_dictionary, "subprocess", own)


@pytest.fixture
def first_use(tmp_path, monkeypatch):
    """A place of the rendered dictionary where nothing is, and few images to make. Returns the place."""

    def start_with_few(command, **options):
        return subprocess.Popen([*map(str, command), "--images", "15", "--per-group", "2", "--workers", "1"], **options)

    monkeypatch.setattr(render_dictionary, "DEFAULT_FOLDER", tmp_path / "rendered")
    start_renderers_by(start_with_few, monkeypatch)
    return tmp_path / "rendered"


def test_the_settings_name_the_place():
    assert (REPOSITORY / settings.DICTIONARY) == render_dictionary.DEFAULT_FOLDER
    options = render_dictionary.parse_arguments([])
    assert (options.images, options.per_group, options.out) == (1000, 200, render_dictionary.DEFAULT_FOLDER)


def test_main_and_nl_bias_make_it_when_it_is_not_there(first_use, run_main, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    run_main(DICTIONARY=first_use)
    assert f"{first_use} is not there yet: rendering it, once" in caplog.text
    assert (tmp_path / "result" / "onet_layer3_conv.pdf").is_file()
    made = contents(first_use)
    assert len(format_of(first_use).read_index()[0]) == 15
    caplog.clear()
    run_main(DICTIONARY=first_use)
    assert "rendering it" not in caplog.text
    assert contents(first_use) == made

    import nl_bias

    words = {
        "TASKS": "pnet", "INPUT_SIZE": 48, "DICTIONARY": first_use, "NL_FOLDER": tmp_path / "nl", "PLOT": False,
        "PLOT_FOLDER": tmp_path / "plots", "CACHE_FOLDER": tmp_path / "cache",
    }  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["nl_bias.py", *(f"{name}={value}" for name, value in words.items())])
    for path in first_use.rglob("*"):
        if path.is_file():
            path.unlink()
    for path in sorted(first_use.rglob("*"), reverse=True):
        path.rmdir()
    nl_bias.main()  # an empty folder counts as nothing
    assert contents(first_use) == made
    assert (tmp_path / "nl" / "pnet_layer3_nl_probs.pkl").is_file()


def test_other_places_are_the_user_s_own(first_use, tmp_path):
    render_dictionary.ensure_rendered(tmp_path / "mine")
    assert not first_use.exists() and not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    "recipe, notice",
    [
        ({"renderer": "older"}, "--images 15 --per-group 2 --seed 0 --overwrite"),
        ("{", "rendered.json cannot be read"),
        ("[]", "rendered.json cannot be read"),
        ("{}", "rendered.json cannot be read"),
    ],
)
def test_one_of_another_version_is_kept_with_a_notice(first_use, caplog, recipe, notice):
    caplog.set_level(logging.INFO)
    render_dictionary.ensure_rendered(first_use)
    made_from = json.loads((first_use / RECIPE).read_text())
    assert made_from["images"] == 15
    assert set(made_from["libraries"]) == {"numpy", "cv2", "PIL"}
    caplog.clear()
    render_dictionary.ensure_rendered(first_use)
    assert caplog.text == ""
    (first_use / RECIPE).write_text(json.dumps(made_from | recipe) if isinstance(recipe, dict) else recipe)
    before = contents(first_use)
    render_dictionary.ensure_rendered(first_use)
    assert notice in caplog.text
    assert contents(first_use) == before


def test_links_and_hidden_files_do_not_keep_it_from_being_made(first_use, tmp_path):
    (tmp_path / "big disk").mkdir()
    (tmp_path / "big disk" / ".DS_Store").write_text("")
    first_use.symlink_to(tmp_path / "big disk")
    render_dictionary.ensure_rendered(first_use)
    assert first_use.is_symlink()
    assert len(format_of(tmp_path / "big disk").read_index()[0]) == 15


def test_a_second_run_waits_for_the_first(first_use, caplog):
    caplog.set_level(logging.INFO)
    first = threading.Thread(target=render_dictionary.ensure_rendered, args=[first_use])
    first.start()
    while not (first_use.parent / ".rendered.partial").exists():
        time.sleep(0.01)
    render_dictionary.ensure_rendered(first_use)
    assert len(format_of(first_use).read_index()[0]) == 15
    assert "another run is making" in caplog.text and caplog.text.count("rendering it, once") == 1
    first.join()


def test_a_dictionary_of_one_s_own_at_the_place_is_left_alone(first_use, caplog):
    caplog.set_level(logging.INFO)
    first_use.mkdir()
    (first_use / "Parts.csv").write_text("image,labels\n")
    render_dictionary.ensure_rendered(first_use)
    assert caplog.text == ""
    assert [path.name for path in first_use.iterdir()] == ["Parts.csv"]


def test_a_failure_to_make_it_ends_the_run(first_use, run_main, capfd, monkeypatch):
    failing = [*COMMAND, "--images", "0", "--out", str(first_use)]
    start_renderers_by(lambda _, **options: subprocess.Popen(failing, **options), monkeypatch)
    with pytest.raises(DissectionError, match="rendered was not made, for the reason above"):
        run_main(DICTIONARY=first_use)
    assert "error: --images is 0" in capfd.readouterr().err


def test_a_dictionary_that_a_killed_run_left_aside_is_put_back(first_use):
    render_dictionary.ensure_rendered(first_use)
    made = contents(first_use)
    for empty_folder_there in (False, True):
        first_use.rename(first_use.with_name(".rendered.replaced"))
        if empty_folder_there:
            first_use.mkdir()
        render_dictionary.ensure_rendered(first_use)
        assert contents(first_use) == made


def test_a_link_that_leads_to_itself_is_one_line(first_use, run_main):
    first_use.symlink_to(first_use)
    with pytest.raises(DissectionError, match="no Face Dictionary at"):
        run_main(DICTIONARY=first_use)


def test_a_rendered_dictionary_brings_its_faces_along_where_mtcnn_would_find_them(tmp_path):
    root = rendered(tmp_path / "drawn", "--images", 3, "--per-group", 1)
    photographs = [*root.glob(f"{GLOBAL_FOLDER}/*/*/*.png"), *root.glob("*/*/original.png")]
    digests = {path.relative_to(root).as_posix(): digest(path) for path in photographs}
    assert len(digests) == 3 + 8
    paths, contents_of = list(digests), list(digests.values())  # without looking for any
    found = find_faces(root, 11, paths.__getitem__, contents_of.__getitem__, tmp_path, "cpu", 0, search=False)
    known = dict(zip(paths, found, strict=True))
    find = face_finder("cpu")
    for path, face in known.items():
        found = find(load_rgb(root / path))
        width = face.box[2] - face.box[0]
        assert np.abs(np.subtract(found.points, face.points)).max() < 0.12 * width
        assert np.abs(np.subtract(found.box, face.box)).max() < 0.2 * width
        assert found.size == face.size
