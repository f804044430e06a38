"""One page that leads to all others: every layer, comparison and report in a folder of results.

    python -m report.site                 # of result/, as result/index.html
    python -m report.site other_results

Written from what lies there; run it again after further results.
"""

import sys
from pathlib import Path
from urllib.parse import quote

from report.beside import layer_line, layers_in
from report.page import render, write_pages
from util.errors import DissectionError, run_script
from util.files import replace_text

_COMPARISONS = ("concepts_comparison", "bias_comparison")


def main():
    words = sys.argv[1:]
    if len(words) > 1 or any(word.startswith("-") for word in words):
        print(__doc__)
        return
    print(f"open {write_site(Path(words[0] if words else 'result'))}")


def write_site(root):
    """Write the index of a folder of results. Returns its path. Raises DissectionError when there is nothing."""
    folders = [folder for folder in _folders(root) if layers_in(folder)]
    if not folders:
        raise DissectionError(f"no page of a layer lies in {root} or the folders in it: run main.py first")
    nl_folders = [folder for folder in _folders(root) if any(folder.glob("*_nl_chance.csv"))]
    parts = []
    for folder in folders:
        beside = [other for other in nl_folders if other.name.endswith("_test") == folder.name.endswith("_test")]
        write_pages(folder, beside[0] if beside else folder)
        lines = [_line(root, folder, store) for store in layers_in(folder)]
        parts.append({"name": "Layers" if folder == root else folder.name, "layers": lines})
    compared = [
        {"name": f"{path.stem.replace('_', ' ')} ({path.parent.name})", "href": _href(root, path)}
        for folder in _folders(root) for name in _COMPARISONS for path in sorted(folder.glob(f"{name}*.html"))
    ]  # fmt: skip
    reports = [
        {"name": path.name, "href": _href(root, path)}
        for folder in _folders(root) for path in sorted(folder.glob("*.pdf"))
    ]  # fmt: skip
    index = root / "index.html"
    replace_text(index, render("site.html", title="Results", parts=parts, compared=compared, reports=reports))
    return index


def _folders(root):
    """The folder of results and those right in it, in which manifests or reports may lie."""
    return [root, *sorted(path for path in root.iterdir() if path.is_dir())] if root.is_dir() else []


def _line(root, folder, store):
    line = layer_line(store)
    most = sorted(line["concepts"].items(), key=lambda of: -len(of[1]))[:4]
    return {
        "name": store.layer, "href": _href(root, folder / line["page"]),
        "network": line["network"], "date": line["date"],
        "counts": f"{line['detectors']} of {line['units']}", "confirmed": line["confirmed"] if line["judged"] else "–",
        "concepts": ", ".join(f"{concept.replace('_', ' ')} {len(units)}" for concept, units in most) or "none",
    }  # fmt: skip


def _href(root, path):
    return quote(path.relative_to(root).as_posix())


if __name__ == "__main__":
    run_script(main)
