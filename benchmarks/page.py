"""How large a layer's page is, how fast it opens, and what it costs beside the PDF alone.

    python -m benchmarks.page --units 512 --images 3000

The masks have been decoded already, as main.py's tally does, whose outlines the page takes.

Photographs and masks are those of a made-up dictionary (see synthetic_dictionary.py), all 38 concepts; the units' maps
are smooth random numbers of --side x --side, counted at --grid px. Opening is the time until the view is drawn in a
headless chromium, if there is one with its driver and selenium; filtering is that of the wall of units.
"""

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measuring import peak_mib, read_options
from benchmarks.synthetic_dictionary import make_dictionary
from dictionary.dictionary import open_dictionary
from feature_operation import FeatureOperator
from method.evidence import Evidence, Twins, arrays_of
from method.findings import Findings
from method.tally import TallyStatistic
from report import pdf, shown
from report.dissection import Dissection
from report.page import MEANING, write_page
from store.feature_file import FeatureMaps

QUANTILE, SCORE_THRESHOLD, ALPHA = 0.005, 0.04, 0.05


def made_up_maps(folder, images, units, side):
    """Smooth random maps in a file. Returns FeatureMaps."""
    random = np.random.default_rng(0)
    with open(folder / "maps", "wb") as file:
        for start in range(0, images, 256):
            shape = (min(256, images - start), units, side + 1, side + 1)
            noise = random.standard_normal(shape, np.float32)
            maps = noise[:, :, :-1, :-1] + noise[:, :, 1:, 1:] + noise[:, :, 1:, :-1] + noise[:, :, :-1, 1:]
            file.write((maps + random.gamma(0.3, 2, (*shape[:2], 1, 1)).astype(np.float32)).tobytes())
    return FeatureMaps(folder / "maps", (images, units, side, side), "float32", np.ones(images, bool))


def dissected(options, folder):
    """A Dissection of the made-up layer, as main.py has it when it begins to write reports."""
    make_dictionary(folder / "dictionary", options.images, options.workers)
    dictionary = open_dictionary(folder / "dictionary", memory_folder=folder, workers=options.workers)
    grid = (options.grid, options.grid)
    operator = FeatureOperator(None, dictionary, grid=grid, workers=options.workers)
    maps = made_up_maps(folder, len(dictionary.rows), options.units, options.side)
    thresholds = operator.quantile_threshold(maps, QUANTILE)
    statistic = TallyStatistic(thresholds, dictionary.concepts, dictionary.carries)
    (tally,) = operator.tally({"layer": (maps, [statistic])})["layer"]
    chance = operator.chance({"layer": (maps, tally)}, permutations=20, bootstraps=20, images=128)["layer"]
    presence = operator.presence({"layer": maps})["layer"]
    arrays = arrays_of(chance, presence, operator.wider_concepts, operator.photographs)
    twins = Twins.of(options.units, chance.map_size, [])
    evidence = Evidence.of_arrays(arrays, twins, SCORE_THRESHOLD, ALPHA)
    findings = Findings(tally, SCORE_THRESHOLD)
    return Dissection(
        "made_up", {"network": "made up", "dictionary": "made up"}, findings, evidence, dictionary, maps, grid,
        options.top_images, options.workers, masks_of=operator.masks_of,
    )  # fmt: skip


def measure(options, folder):
    dissection = dissected(options, folder)
    print(f"{options.units} units of {options.side}x{options.side}, {len(dissection.findings.concepts)} concepts, "
          f"{len(dissection.dictionary.rows)} images, {options.grid} px, {options.top_images} per unit")  # fmt: skip
    pdf.write(folder / "warm.pdf", dissection)  # reads all into the system's memory
    alone = min(cpu_seconds(pdf.write, folder / "a.pdf", PdfAlone(**kept(dissection))) for _ in range(options.rounds))
    both = min(cpu_seconds(pdf_and_page, folder, Dissection(**kept(dissection))) for _ in range(options.rounds))
    size = (folder / "made_up.html").stat().st_size
    print(f"  PDF alone    {alone:8.1f} s of processors, {(folder / 'a.pdf').stat().st_size / 1e6:.1f} MB")
    print(f"  PDF and page {both:8.1f} s of processors, {both / alone:.2f} times; page {size / 1e6:.1f} MB")
    print(f"  peak resident memory {peak_mib():.0f} MiB")
    open_it(folder / "made_up.html")


def cpu_seconds(function, *arguments):
    """Seconds of processors, all threads together: what else the machine does matters little."""
    start = time.process_time()
    function(*arguments)
    return time.process_time() - start


class PdfAlone(Dissection):
    """One that makes no small pictures for a page."""

    def photograph(self, row):
        return self.dictionary.photograph(row)


def kept(dissection):
    """The fields of a Dissection without what was kept of its photographs."""
    return {name: value for name, value in vars(dissection).items() if name != "_small"}


def pdf_and_page(folder, dissection):
    pdf.write(folder / "b.pdf", dissection)
    shown.write(folder / "shown.json", dissection)
    write_page(folder / "made_up.html", folder / "shown.json", {"layers": [], "notes": [], "meaning": MEANING})


def open_it(page):
    try:
        from selenium import webdriver
    except ImportError:
        webdriver = None
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (webdriver and program and driver):
        print("  opening: not measured, for there is no chromium with driver and selenium")
        return
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for word in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{word}")
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        times = []
        for state in ("", "view=units", "view=unit&unit=5"):
            browser.get("about:blank")
            start = time.perf_counter()
            browser.get(f"{page.as_uri()}#{state}")
            browser.execute_script("return document.querySelector('h2').textContent")
            times.append(f"{time.perf_counter() - start:.2f} s")
        print(f"  opening the overview, the units, one unit: {', '.join(times)}")
        took = browser.execute_script(
            "location.hash = 'view=units'; show(); const start = performance.now();"
            "const region = document.querySelector('[name=region]'); region.value = region.options[1].value;"
            "region.dispatchEvent(new Event('change')); document.body.offsetHeight; return performance.now() - start"
        )
        print(f"  filtering the wall: {took:.0f} ms")
    finally:
        browser.quit()


def main():
    options = read_options(__doc__, units=512, images=3000, side=4, grid=128, top_images=4, workers=2, rounds=2)
    with tempfile.TemporaryDirectory() as folder:
        measure(options, Path(folder))


if __name__ == "__main__":
    main()
