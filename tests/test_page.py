"""The pages in a real browser, and what they are made of: numbers, outlines, and what must not be in them."""

import base64
import csv
import json
import logging
import re
import shutil
import sys
from types import SimpleNamespace
from urllib.parse import quote

import cv2
import numpy as np
import pytest

import cluster_top
import main
import nl_bias
from dictionary.views import WHOLE, Chip, Part
from method.segmentation import active_pixels
from report.comparison_page import BIAS, write_comparison_page
from report.contours import SCALE, contours, onto_picture
from report.page import inline
from report.shown import chosen_images, unit_outlines, without_places
from report.site import write_site
from report.tables import write_csv
from store.layer import LayerStore, Stage
from tests.conftest import LITTLE_CHANCE, DictionaryMaker

HOSTILE = "<script>hostile=1<"
LAYERS = ("layer2", "layer3")
GRID = (48, 48)


# ------------------------------------------------------------------------------------------------------ what is opened


def photographs(count, seed):
    """Smooth random pictures of several sizes."""
    random = np.random.default_rng(seed)
    for number in range(count):
        yield cv2.resize(random.integers(0, 256, (6, 5, 3), np.uint8), (50 + number % 2 * 5, 60 + number % 3 * 7))


def dictionary_with_hostile_name(root):
    """Photographs with a nose, now and then a mouth, a concept whose name is a piece of a page, and an action unit; two
    subgroups.
    """
    maker, random = DictionaryMaker(root), np.random.default_rng(1)
    for number, image in enumerate(photographs(16, 0)):
        masks = {}
        for concept in ("nose", "mouth", HOSTILE)[: 1 + number % 3]:
            top, left = random.integers(5, 35), random.integers(5, 30)
            masks[concept] = np.zeros(image.shape[:2], bool)
            masks[concept][top : top + 14, left : left + 16] = True
        if number % 5 == 0:
            masks["AU_12"] = np.zeros(image.shape[:2], bool)
            masks["AU_12"][:12, :14] = True
        maker.add(image, masks)
    (root / "concepts.csv").write_text(f"concept,type,region\n{HOSTILE},Attr,Mouth_Region\n")
    for place, group in enumerate(("Male", "Female")):
        folder = root / "non_localizable" / "Gender" / group
        folder.mkdir(parents=True)
        for number, image in enumerate(photographs(12, 2 + place)):
            cv2.imwrite(str(folder / f"{number}.png"), np.clip(image * (1 - 0.6 * place), 0, 255).astype(np.uint8))
    return maker.write()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two layers of O-Net dissected, with bias and hierarchy. Returns a function that runs a script with settings."""
    root = tmp_path_factory.mktemp("pages")
    dictionary_with_hostile_name(root / "dictionary")

    def run(script, **words):
        settings = {
            "LAYER_NAME": ",".join(LAYERS), "INPUT_SIZE": 48, "DICTIONARY": root / "dictionary",
            "OUTPUT_FOLDER": root / "local", "NL_FOLDER": root / "global", "PLOT_FOLDER": root / "plots",
            "CACHE_FOLDER": root / "cache", "SCORE_THRESHOLD": 0.02, **LITTLE_CHANCE,
            **({"TASK": "onet"} if script is main else {"TASKS": "onet"}), **words,
        }  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["script", *(f"{name}={value}" for name, value in settings.items())])
            script.main()
        return root

    run.root = root
    for script in (main, nl_bias, cluster_top):
        run(script)
    return run


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def units(results):
    return rows_of(results.root / "local" / "onet_layer3_units.csv")


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (requirements-dev.txt)")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1280,1000",
    ):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.fixture
def view(browser, results):
    """A function that opens a page in a state; afterwards nothing was complained of and nothing was fetched."""

    def visit(state="", page="onet_layer3.html", folder="local"):
        browser.get("about:blank")
        browser.get((results.root / folder / page).as_uri() + "#" + state)
        return SimpleNamespace(
            browser=browser,
            all=lambda css: browser.find_elements("css selector", css),
            text=lambda css="main": browser.find_element("css selector", css).text,
            one=lambda css: browser.find_element("css selector", css),
        )

    yield visit
    assert browser.get_log("browser") == []
    for entry in browser.get_log("performance"):
        event = json.loads(entry["message"])["message"]
        if event["method"] == "Network.requestWillBeSent":
            url = event["params"]["request"]["url"]
            assert url.startswith(("data:", "about:")) or re.fullmatch(r"file://.*\.html(#.*)?", url), url


def choose(view, name, value):
    from selenium.webdriver.support.ui import Select

    Select(view.one(f"[name={name}]")).select_by_value(value)


def cards(view):
    """The numbers of the units on the wall, in order."""
    return [int(card.text.split("\n")[0].split()[1]) for card in view.all(".card")]


def press(view, key):
    from selenium.webdriver.common.keys import Keys

    view.one("body").send_keys(getattr(Keys, key))


# ------------------------------------------------------------------------------------------------------- in the browser


def test_the_overview_counts_what_the_table_has(view, results, units):
    page = view()
    counts = [row.text for row in page.all("table")[0].find_elements("css selector", "tbody tr")]
    detectors = [row for row in units if row["interpretable"] == "1"]
    assert len(detectors) > 5
    assert counts[0].startswith(f"detectors (IoU > 0.02) {len(detectors)} of {len(units)} ")
    assert counts[1].startswith(f"confirmed detectors {sum(row['confirmed'] == '1' for row in units)} ")
    assert counts[2].startswith(f"different concepts of detectors {len({row['top_concept'] for row in detectors})} ")
    twin = np.load(results.root / "local" / "onet_layer3_twins.npz")
    detects = [place for place, iou in enumerate(twin["top_iou"][0]) if iou > 0.02]
    sure = [place for place in detects if twin["q"][0, place] <= 0.05 and twin["p_label"][0, place] <= 0.05]
    different = [len({int(twin["top_concept"][0, of]) for of in some}) for some in (detects, sure)]
    assert [int(row.split()[-1]) for row in counts[:4]] == [len(detects), len(sure), *different]
    formulas = rows_of(results.root / "local" / "onet_layer3_formulas.csv")
    asked = np.isin(twin["formula_unit"], detects)
    assert counts[4] == "follow a formula better than their label {} of {} {} of {}".format(
        sum(row["holds"] == "1" for row in formulas), len(formulas), twin["formula_holds"][asked].sum(), asked.sum()
    )
    assert page.browser.title == "Overview – onet_layer3"
    assert page.all(".face image") and len(page.all(".face .region")) == 2


def test_units_are_filtered_sorted_and_found(view, units):
    page = view("view=units")
    by_iou = sorted(units, key=lambda row: (-float(row["iou"]), int(row["unit"])))
    assert cards(page) == [int(row["unit"]) for row in by_iou]
    choose(page, "concept", "nose")
    noses = [int(row["unit"]) for row in by_iou if row["top_concept"] == "nose"]
    assert noses and cards(page) == noses
    assert page.text("#count") == f"{len(noses)} of {len(units)} units"
    choose(page, "sort", "unit")
    assert cards(page) == sorted(noses)
    page.one("button").click()
    assert len(cards(page)) == len(units)
    page.one("[name=text]").send_keys("mouth region")
    region = [int(row["unit"]) for row in by_iou if row["region"] == "Mouth_Region"]
    assert region and cards(page) == region
    page.one("button").click()
    choose(page, "standing", "detectors")
    page.one("[name=least]").send_keys("0.05")
    assert cards(page) == [int(row["unit"]) for row in by_iou if float(row["iou"]) >= 0.05]
    page.one("button").click()
    page.one("[name=leastx]").send_keys("0.01")
    beyond = [int(row["unit"]) for row in by_iou if row["excess"] and float(row["excess"]) >= 0.01]
    assert beyond and cards(page) == beyond


def test_a_link_shows_the_same_again(view):
    page = view("view=units")
    choose(page, "concept", "mouth")
    choose(page, "sort", "q")
    shown, address = cards(page), page.browser.current_url.partition("#")[2]
    assert shown and set(address.split("&")) == {"view=units", "concept=mouth", "sort=q"}
    page = view(address)
    assert cards(page) == shown and page.one("[name=concept]").get_attribute("value") == "mouth"
    page.all(".card")[0].click()
    assert page.text("h2").startswith(f"Unit {shown[0]}: mouth")
    page.browser.back()
    assert cards(page) == shown


@pytest.mark.parametrize("place", [0, 7, -1])
def test_the_numbers_of_a_unit_are_those_of_the_tables(view, units, results, place):
    unit = [row for row in units if row["top_concept"]][place]
    page = view(f"view=unit&unit={unit['unit']}")
    told = page.text(".lead")
    assert f"IoU {float(unit['iou']):.4f} with {unit['top_concept'].replace('_', ' ')}" in told
    assert f"alone gives, is {float(unit['location_iou']):.3f}" in told
    matrix = rows_of(results.root / "local" / "onet_layer3_iou.csv")[int(unit["unit"])]
    found = {row.find_element("css selector", "th a").text: row for row in page.all("#concepts tbody tr")}
    for concept in ("nose", "mouth", HOSTILE):
        cells = found[concept.replace("_", " ")].find_elements("css selector", "td")
        assert cells[1].text == f"{float(matrix[concept]):.3f}"
    presence = rows_of(results.root / "local" / "onet_layer3_presence.csv")
    told = [row for row in presence if row["unit"] == unit["unit"]]
    assert told and all(f"{float(row['auc']):.2f} (" in found[row["concept"].replace("_", " ")].text for row in told)


def test_bias_and_hierarchy_stand_beside_the_unit(view, results, units):
    bias = rows_of(results.root / "global" / "onet_layer3_nl_chance.csv")
    hierarchy = rows_of(results.root / "local" / "onet_layer3_hierarchy.csv")
    unit = hierarchy[0]["unit"]
    page = view(f"view=unit&unit={unit}")
    lines = [row.text for row in page.all("#bias tbody tr")]
    expected = [row for row in bias if row["unit"] == unit]
    assert len(lines) == len(expected) == 2
    for line, row in zip(lines, expected, strict=True):
        words = line.split("\n")
        assert words[0] == f"gender: {row['group']}" and words[1].startswith(f"{float(row['probability']):.3f} ")
        assert line.endswith(row["verdict"])
    lines = [row.text for row in page.all("#hierarchy tbody tr")]
    expected = [row for row in hierarchy if row["unit"] == unit]
    assert len(lines) == len(expected) > 0
    for line, row in zip(lines, expected, strict=True):
        name = row["concept"].replace("_", " ")
        assert re.match(rf"{re.escape(name)}.*\n{float(row['probability']):.3f} ", line)


def test_bias_is_counted_beside_that_of_untrained_twins(view, results):
    page, bias = view(), rows_of(results.root / "global" / "onet_layer3_nl_chance.csv")
    table = next(one for one in page.all("table") if "reach the cut-off" in one.text)
    heads = [head.text for head in table.find_elements("css selector", "thead th")]
    assert heads[:2] == ["subgroup", "reach the cut-off"] and len(heads) > 2
    counts = rows_of(results.root / "global" / "onet_layer3_nl_counts.csv")
    for line in table.find_elements("css selector", "tbody tr"):
        group, *cells = (cell.text for cell in line.find_elements("css selector", "th, td"))
        own, twin = (row for row in counts if f"{row['concept']}: {row['group']}" == group)
        assert (own["of"], twin["of"]) == ("network", "twin 1")
        assert cells[0] == f"{own['cut_off']} ({twin['cut_off']})"
        for verdict, cell in zip(heads[2:], cells[1:], strict=True):
            count = sum(row["verdict"] == verdict and f"{row['concept']}: {row['group']}" == group for row in bias)
            assert cell == f"{count} ({twin[verdict.replace(' ', '_')]})"
            assert own[verdict.replace(" ", "_")] == str(count)


def test_a_verdict_leads_to_its_units(view, results):
    bias = rows_of(results.root / "global" / "onet_layer3_nl_chance.csv")
    counted = {row["verdict"] for row in bias}
    verdict = sorted(counted)[0]
    page = view(f"view=units&group=any&verdict={verdict}")
    assert set(cards(page)) == {int(row["unit"]) for row in bias if row["verdict"] == verdict}


def test_ablation_stands_beside_the_unit_where_there_is_any(view, results):
    store = LayerStore(results.root / "local", "onet_layer3")
    store.about = {name: text for name, text in store.about_of("_shown.json").items() if name != "date"}
    header = ["unit", "importance", "low", "high", "label", "points, all", "points, gender: male"]
    rows = [[unit, "1", "0.01", "0.03", "nose", f"{unit / 1000}", "" if unit else "0.5"] for unit in range(64)]
    store.make(Stage("_ablation_units.csv", "single units", ()), write_csv, [header, *rows])
    try:
        results(main)
        lines = [row.text for row in view("view=unit&unit=48").all("#ablation tbody tr")]
        assert lines == ["points, all 0.0480 0.0100 to 0.0300 25 %"]
    finally:
        store.forget("_ablation_units.csv")
        results(main)
    assert not view("view=unit&unit=48").all("#ablation")


def test_switches_draw_and_the_address_keeps_them(view, units):
    unit = max(units, key=lambda row: float(row["iou"]))["unit"]
    page = view(f"view=unit&unit={unit}")
    marks = {"outline": ".unit-line", "mask": ".mask-line", "dark": ".darkness"}
    for name, css in marks.items():
        assert page.all(f"#images {css}"), name
        page.one(f"[name={name}]").click()
        assert not page.all(f"#images {css}"), name
    page = view(page.browser.current_url.partition("#")[2])
    assert not any(page.all(f"#images {css}") for css in marks.values())
    page.one("[name=mask]").click()
    assert page.all("#images .mask-line") and "mask=" not in page.browser.current_url


def test_arrow_keys_turn_through_the_units_that_were_chosen(view, units):
    noses = sorted(int(row["unit"]) for row in units if row["top_concept"] == "nose")
    page = view(f"view=unit&unit={noses[0]}&concept=nose&sort=unit")
    assert page.text("#up") == f"1 of {len(noses)} units"
    press(page, "ARROW_RIGHT")
    assert page.text("h2").startswith(f"Unit {noses[1]}:")
    press(page, "ARROW_LEFT")
    press(page, "ARROW_LEFT")  # there is none before
    assert page.text("h2").startswith(f"Unit {noses[0]}:")
    press(page, "ESCAPE")
    assert cards(page) == noses


def test_a_photograph_tells_which_units_are_active_in_it(view, results, units):
    unit = max(units, key=lambda row: float(row["iou"]))["unit"]
    page = view(f"view=unit&unit={unit}")
    page.one("#images a").click()
    image = int(re.search(r"image=(\d+)", page.browser.current_url)[1])
    folder = results.root / "local"
    shape = tuple(np.load(folder / "onet_layer3_feature_size.npy"))
    maps = np.memmap(folder / "onet_layer3.mmap", np.float32, "r", shape=shape)
    active = active_pixels(np.array(maps[image]), np.load(folder / "onet_layer3_quantile.npy"), GRID).any(axis=(1, 2))
    listed = [int(link.text.split()[1]) for link in page.all("ul.units a")]
    assert sorted(listed) == np.flatnonzero(active).tolist()
    assert page.text(".lead").startswith(f"Here unit {unit} looks at the bright area: of it, about ")
    assert page.all(".large .unit-line") and f"unit {unit} is active" in page.one(".large svg").get_attribute(
        "aria-label"
    )


def test_a_hostile_name_is_only_a_name(view, units):
    page = view(f"view=concept&concept={quote(HOSTILE)}")
    assert page.text("h2") == HOSTILE
    page = view("view=units")
    assert any(HOSTILE in card.text for card in page.all(".card")) == any(
        row["top_concept"] == HOSTILE for row in units
    )
    assert page.browser.execute_script("return typeof hostile") == "undefined"
    assert inline('{"a": "</script><!--"}') == '{"a": "\\u003c/script>\\u003c!--"}'


def test_layers_of_the_run_are_tabs_and_a_concept_leads_to_them(view, results):
    page = view("view=units")
    assert [tab.text.split()[0] for tab in page.all("#layers a")] == list(LAYERS)
    page.all("#layers a")[0].click()
    assert page.text("h1") == "onet_layer2" and page.text("h2") == "Units"
    others = [row for row in rows_of(results.root / "local" / "onet_layer2_units.csv") if row["interpretable"] == "1"]
    concept = others[0]["top_concept"]
    page = view(f"view=concept&concept={quote(concept)}")
    expected = {f"unit {row['unit']}" for row in others if row["top_concept"] == concept}
    assert {link.text for link in page.all("table ul a")} == expected


def test_comparisons_show_what_their_tables_have(view, results, units):
    page = view(page="concepts_comparison.html")
    row = next(row for row in page.all("tr.first, .compared tbody tr") if "onet_layer3" in row.text)
    count = sum(row["confirmed"] == "1" for row in units)
    assert f" {count} " in row.text and len(row.find_elements("css selector", "a")) == bool(count)
    page = view(page="bias_comparison.html", folder="global")
    assert "gender" in page.text() and "onet_layer2" in page.text()
    assert "untrained twins, mean" in page.text("thead") and page.text(".axis").split("\n")[1].endswith(" %")
    rows = rows_of(results.root / "global" / "bias_comparison.csv")
    shares = {(row["layer"], row["group"]): row for row in rows if not row["other_layer"]}
    for line in page.all(".compared tbody tr"):
        group, _, layer, count, _, twins = (cell.text for cell in line.find_elements("css selector", "th, td"))
        assert count == shares[layer, group]["biased"]
        assert twins == f"{100 * float(shares[layer, group]['share_of_twins']):.1f} %"


def test_a_number_leads_to_its_units_and_none_to_nothing(view, results):
    table, lines = results.root / "global" / "made_up.csv", rows_of(results.root / "global" / "bias_comparison.csv")
    (male, female), *_ = ([row for row in lines if row["layer"] == layer] for layer in ("onet_layer3", "onet_layer2"))
    male["biased"], female["biased"] = "0", "3"
    write_csv(table, [list(male), list(male.values()), list(female.values())])
    write_comparison_page(results.root / "global" / "made_up.html", BIAS, table, results.root / "local")
    page = view(page="made_up.html", folder="global")
    (link,) = page.all(".compared a")
    assert link.text == "3"
    link.click()
    assert page.text("h2") == "Units" and page.one("[name=verdict]").get_attribute("value") == "biased"
    assert page.one("[name=group]").get_attribute("value") == f"gender: {female['group']}"


VIEWS = {
    "overview": "", "units": "view=units", "an empty wall": "view=units&text=none", "unit": "view=unit&unit=3",
    "concepts": "view=concept", "concept": "view=concept&concept=nose", "images": "view=image",
    "image": "view=image&image=2", "unit in an image": "view=image&image=2&unit=3&of=nose",
}  # fmt: skip
PAGES = {
    "concepts compared": ("concepts_comparison.html", "local"), "bias compared": ("bias_comparison.html", "global"),
    "index": ("index.html", ""),
}  # fmt: skip


@pytest.fixture
def every_view(view, results):
    """A function that opens one view after the other: yields (name, page)."""
    write_site(results.root)

    def visit():
        for name, state in VIEWS.items():
            yield name, view(state)
        for name, (page, folder) in PAGES.items():
            yield name, view(page=page, folder=folder)

    return visit


@pytest.fixture
def screen(browser):
    """A function that sets the width of the screen, and whether it is dark; afterwards all is as before."""

    def become(width, dark=False):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    yield become
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("width", [360, 800, 1000, 1170, 1280])
def test_nothing_is_cut_off_and_no_screen_needs_sideways_scrolling(every_view, screen, width):
    screen(width)
    for name, page in every_view():
        assert page.browser.execute_script("return document.documentElement.scrollWidth") <= width, name
        cut = page.browser.execute_script(
            "return [...document.querySelectorAll('.scroll, td, th, a, select')].filter((one) => "
            "one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== 'inline').map((one) => "
            "one.outerHTML.slice(0, 200))"
        )
        assert cut == [], name


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_no_view_breaks_a_rule_of_wcag(every_view, screen, width, dark):
    """Contrast, names, roles, landmarks: the rules of WCAG 2.1 A and AA that a program can check, and good practice."""
    axe = pytest.importorskip("axe_core_python.selenium", reason="axe is not installed (requirements-dev.txt)").Axe()
    screen(width, dark)
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
    for name, page in every_view():
        page.browser.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
        if name == "unit":
            page.one("main .term").click()  # with the meaning of a figure open
        found = axe.run(page.browser, options={"runOnly": rules})
        assert len(found["passes"]) > 10
        assert [(of["id"], of["nodes"][0]["html"]) for of in found["violations"]] == [], name


def read_out(browser):
    """What a screen reader is given: list of (role, name)."""
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    return [(of["role"]["value"], of.get("name", {}).get("value", "")) for of in nodes if not of["ignored"]]


@pytest.mark.parametrize("width", [360, 1280])
def test_everything_has_a_name_that_makes_sense_alone(every_view, screen, width):
    screen(width)
    acting = {"link", "button", "image", "combobox", "searchbox", "spinbutton", "checkbox", "columnheader", "rowheader"}
    for name, page in every_view():
        told = read_out(page.browser)
        nameless = [(role, text) for role, text in told if role in acting and not re.search("[A-Za-z]", text)]
        assert nameless == [], name
        roles = [role for role, _ in told]
        assert roles.count("main") == 1 and len(page.all("h1")) == 1 and page.all("h2")
        assert roles.count("table") == len(page.all("main table:not(details:not([open]) *)"))
        if "table" in roles:
            assert roles.count("columnheader") and roles.count("rowheader")
    assert page.browser.execute_script("return document.activeElement.tagName") in ("BODY", "H2")


def test_a_filter_keeps_the_keyboard_and_tells_the_count(view, units):
    from selenium.webdriver.common.keys import Keys

    page = view("view=units")
    active = "return document.activeElement.name"
    page.one("[name=text]").send_keys("nose")
    assert page.browser.execute_script(active) == "text"
    noses = sum(row["top_concept"] == "nose" for row in units)
    status = "return document.getElementById('status').textContent.trim()"
    assert page.browser.execute_script(status) == f"{noses} of {len(units)} units" == page.text("#count")
    page.one("[name=sort]").send_keys(Keys.ARROW_DOWN)
    assert page.browser.execute_script(active) == "sort" and "sort=excess" in page.browser.current_url
    page.one("button").send_keys(Keys.ENTER)
    assert page.browser.execute_script(status) == f"{len(units)} of {len(units)} units"
    page = view(f"view=unit&unit={next(row['unit'] for row in units if row['second_concept'])}")
    before = page.browser.current_url
    assert len(page.all("[name=of] option")) > 1
    page.one("[name=of]").send_keys(Keys.HOME, Keys.END)
    assert page.browser.execute_script(active) == "of" and page.browser.current_url != before
    seen = "const { outlineStyle: style, outlineWidth: width } = getComputedStyle(document.activeElement);"
    assert page.browser.execute_script(seen + " return [style, width]") == ["solid", "3px"]


def test_an_empty_wall_says_which_filter_to_loosen(view, units):
    other = next(row for row in units if row["top_concept"] == "nose" and row["confirmed"] != "1")
    page = view(f"view=units&text=unit+{other['unit']}+nose&standing=confirmed&least=0")
    assert not page.all(".card") and "No unit meets all that is asked" in page.text("#hints")
    link = next(one for one in page.all("#hints a") if "Standing “confirmed”" in one.text)
    count = int(re.search(r": (\d+) unit", link.text)[1])
    link.click()
    assert len(cards(page)) == count > 0 and int(other["unit"]) in cards(page) and not page.text("#hints")
    assert "nor with any one filter less" in view("view=units&text=nothing&least=1").text("#hints")


def test_the_meaning_of_a_figure_is_a_key_away(view, units):
    from selenium.webdriver.common.keys import Keys

    page = view(f"view=unit&unit={max(units, key=lambda row: float(row['iou']))['unit']}")
    terms = page.all("main .term")
    assert {"IoU", "location level", "AUC of presence", "P", "q"} <= {term.text for term in terms}
    for term in terms:
        term.send_keys(Keys.ENTER)
        assert len(page.text("#meaning p")) > 20
        page.browser.switch_to.active_element.send_keys(Keys.ESCAPE)  # closes it, and does not leave the unit
        assert not page.one("#meaning").is_displayed() and page.text("h2").startswith("Unit ")
        assert page.browser.switch_to.active_element == term


def test_an_action_unit_is_explained_and_found_by_its_name(view, units):
    assert view("view=concept&concept=AU_12").text("h2") == "AU 12 lip corner puller"
    assert "AU 12 lip corner puller" in view("view=concept").text()
    expected = sorted(int(row["unit"]) for row in units if row["top_concept"] == "AU_12")
    assert expected and sorted(cards(view("view=units&text=corner+puller"))) == expected


# ----------------------------------------------------------------------------------------------- without a browser


def test_a_page_is_made_anew_only_when_something_changed_and_holds_no_folders(results, capsys):
    pages = [results.root / "local" / f"onet_{layer}.html" for layer in LAYERS]
    before = [page.stat().st_mtime_ns for page in pages]
    results(main)
    assert [page.stat().st_mtime_ns for page in pages] == before
    assert capsys.readouterr().out.rstrip().endswith(f"open {pages[0]}")
    for page in pages:
        text = page.read_text()
        assert str(results.root) not in text and str(results.root.parent) not in text
        assert not re.search(r"""(?:src|href)=["']https?:""", text)


def test_what_belongs_to_another_network_is_left_out_and_said(results, caplog):
    caplog.set_level(logging.INFO)
    manifest = results.root / "global" / "onet_layer3_manifest.json"
    page, kept = results.root / "local" / "onet_layer3.html", manifest.read_text()
    content = json.loads(kept)
    content["files"]["_nl_chance.csv"]["about"]["weights"] = "others"
    manifest.write_text(json.dumps(content))
    try:
        results(main)
        assert "its page goes without bias: " in caplog.text and "was made with another weights" in caplog.text
        assert "The results on bias are left out" in page.read_text() and '"bias": {"units"' not in page.read_text()
    finally:
        manifest.write_text(kept)
    results(main)
    assert '"bias": {"units": {"0": [{"concept": "gender"' in page.read_text()


def test_without_photographs_there_are_none(results):
    page = results.root / "local" / "onet_layer3.html"
    assert '"jpeg":"/9j/' in page.read_text()
    try:
        results(main, PAGE_PHOTOGRAPHS=False)
        assert "/9j/" not in page.read_text() and '"jpeg":null' in page.read_text()
    finally:
        results(main)
    assert '"jpeg":"/9j/' in page.read_text()


def test_an_index_leads_to_all_pages(results):
    text = write_site(results.root).read_text()
    links = re.findall(r'href="([^"]*)"', text)
    assert {"local/onet_layer2.html", "local/onet_layer3.html", "local/concepts_comparison.html"} <= set(links)
    assert "global/bias_comparison.html" in links
    assert all((results.root / link).exists() for link in links)


def polygons(text):
    """Plainly: the polygons of a text of contours, list of float (n, 2), places on the grid in shares of its sides."""
    content, found = base64.b64decode(text), []
    while content:
        count = content[0]
        places = np.frombuffer(content[1 : 1 + 2 * count], np.uint8).reshape(count, 2)
        found.append(places / SCALE)
        content = content[1 + 2 * count :]
    return found


def covers(found, x, y):
    """Plainly: whether a place lies within polygons by the even-odd rule."""
    inside = False
    for corners in found:
        for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
                inside = not inside
    return inside


def test_outlines_cover_the_pixels_they_stand_for():
    random = np.random.default_rng(5)
    for rows, columns in ((24, 24), (40, 28)):
        pixels = cv2.resize(random.random((7, 6)).astype(np.float32), (columns, rows)) > 0.55
        pixels[3, 3] = True
        pixels[3, 2] = pixels[3, 4] = pixels[2, 3] = pixels[4, 3] = False  # one alone
        found = polygons(contours(pixels))
        near = cv2.dilate(pixels.astype(np.uint8), np.ones((3, 3))) != cv2.erode(
            pixels.astype(np.uint8), np.ones((3, 3))
        )
        drawn = np.array([
            [covers(found, (column + 0.5) / columns, (row + 0.5) / rows) for column in range(columns)]
            for row in range(rows)
        ])  # fmt: skip
        assert drawn[3, 3]
        assert np.array_equal(drawn[~near], pixels[~near])
        assert (drawn != pixels).mean() < 0.02
    assert contours(np.zeros((8, 8), bool)) == ""


def test_a_peak_between_the_pixels_of_the_coarser_grid_is_outlined_all_the_same():
    maps = np.zeros((3, 128, 128), np.float32)
    maps[0, 40, 61] = 1  # half of it in every pixel of a grid half as fine
    maps[1, 20:60, 20:60] = 1
    outlined = unit_outlines(np.array([4, 7, 9]), maps, np.full(3, 0.9), (128, 128))
    assert list(outlined) == [4, 7]
    for unit, pixels in zip(outlined, maps, strict=False):
        for row, column in ((40, 61), (30, 30), (100, 100)):
            lit = covers(polygons(outlined[unit]), (column + 0.5) / 128, (row + 0.5) / 128)
            assert lit == bool(pixels[row, column]), (unit, row, column)


@pytest.mark.parametrize("view_of_photograph", [WHOLE, Part((10, 20, 50, 40)), Chip((0.02, 0.005, -0.1, 0.2))])
def test_outlines_lie_in_the_photograph_where_the_network_saw_them(view_of_photograph):
    size, grid, shown = (80, 60), (32, 48), (40, 30)
    a, b, c, d, e, f = onto_picture(view_of_photograph, size, grid, shown)
    for x, y in ((0, 0), (33.0, 12.5), (79, 60)):
        column, row = view_of_photograph.place(np.array(x), np.array(y), size, grid)
        u, v = column / grid[1] * SCALE, row / grid[0] * SCALE
        assert np.allclose((a * u + c * v + e, b * u + d * v + f), (x / 2, y / 2), atol=0.01)


def test_every_units_best_images_are_shown_before_any_others(results):
    tally = np.load(results.root / "local" / "onet_layer3_tally.npz")
    findings = SimpleNamespace(
        tally=SimpleNamespace(maps=tally["maps"]), ranking=np.argsort(-tally["tally"], axis=1, kind="stable"),
        units_by_iou=lambda: np.argsort(-tally["tally"].max(axis=1), kind="stable"), top_concept=lambda unit: "any",
    )  # fmt: skip
    chosen = chosen_images(findings, 2)
    own = {int(row) for unit in range(64) for row in tally["maps"][unit, tally["tally"][unit].argmax(), :2]} - {-1}
    assert set(chosen[: len(own)]) == own and len(set(chosen)) == len(chosen) <= 16


def test_folders_of_this_machine_are_left_out_of_what_is_said(tmp_path):
    root = tmp_path / "my faces"
    about = {
        "dictionary": f"{root}, 12 images",
        "weights": "/srv/model/a.pth, sha256 12",
        "input": "(x - [1]) / [2]",
    }
    assert without_places(about, root) == {
        "dictionary": "my faces, 12 images", "weights": "a.pth, sha256 12", "input": "(x - [1]) / [2]",
    }  # fmt: skip
