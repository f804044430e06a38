"""The page of a layer: one HTML file that needs no network, no server and nothing beside it.

main.py leaves what a page shows (report/shown.py); every script that adds to a layer has the pages written anew, with
what it and the others found. Data stand inline, as a page from the file system may read no other file.
"""

import json
import logging
import re
from base64 import b64encode
from contextlib import ExitStack
from functools import cache
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from report import bias_chance, chance, hierarchy
from report.beside import SHOWN, UNITS, layers_in, other_layers, page_of, tables_of
from store.layer import LayerStore, Stage, locked
from util.errors import DissectionError
from util.files import digest, fingerprint

log = logging.getLogger(__name__)

_TEMPLATES = Path(__file__).parent / "templates"
PAGE = Stage(".html", "page", (SHOWN.suffix, UNITS.suffix, "beside", "form"))

_SCRIPTS = (
    "elements.js", "data.js", "state.js", "pictures.js", "overview.js", "units.js", "unit.js", "concept.js", "start.js",
)  # fmt: skip

# What the figures mean, in the words of the PDFs: {what they are about: {term: text}}.
MEANING = {"concepts": chance.MEANING, "bias": bias_chance.MEANING, "hierarchy": hierarchy.MEANING}

# Nothing but this page's own script and style runs, and nothing is fetched.
_POLICY = (
    "default-src 'none'; img-src data:; script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; "
    "form-action 'none'"
)


def write_pages(folder, nl_folder):
    """Have the page of every layer in a folder current. nl_folder: where nl_bias.py left its tables.

    A layer that another run works on is left to that run. Returns {layer: path of its page}. Raises DissectionError
    when a page cannot be written.
    """
    stores = layers_in(folder)
    others = other_layers(stores)
    folders = list(dict.fromkeys((Path(folder), Path(nl_folder))))
    for store in stores:
        beside = {**tables_of(store, folders), "layers": _seen_from(store, others), "meaning": MEANING}
        store.facts.update(beside=fingerprint(beside), form=_form())
        if not store.is_current(PAGE, quiet=True):
            with ExitStack() as stack:
                try:
                    stack.enter_context(locked([LayerStore(folder, store.layer)]))
                except DissectionError as error:
                    log.info("%s: %s", page_of(store.layer), error)
                    continue
                store.make(PAGE, write_page, store.path(SHOWN.suffix), beside)
    return {store.layer: store.path(PAGE.suffix) for store in stores if store.path(PAGE.suffix).exists()}


def _seen_from(store, others):
    """The layers beside one, itself included: its run's as tabs, others for their concepts. No folders are named."""
    own = others[store.layer]["run"]
    return [
        {"layer": layer, "same_run": line["run"] == own,
         **{name: value for name, value in line.items() if name not in ("run", "weights", "date", "dictionary")},
         "dictionary": "" if line["run"][-1] == own[-1] else "another dictionary"}
        for layer, line in others.items()
    ]  # fmt: skip


def write_page(path, shown, beside):
    """Write a layer's page. shown: path of what report/shown.py left. beside: what else is known, JSON value."""
    data = Path(shown).read_text(encoding="utf-8")
    layer = json.loads(re.match(r'\{"layer":("(?:[^"\\]|\\.)*")', data)[1])
    text = render("layer.html", *_SCRIPTS, title=layer, shown=data, beside=json.dumps(beside))
    path.write_text(text, encoding="utf-8")


def render(template, *scripts, **content):
    """A page of one of the templates, with the style of all and its scripts. content: of the template; what it puts
    into a script element must go through its filter `inline`. Returns text.
    """
    script, style = (_joined(names) for names in (scripts, ("page.css",)))
    policy = _POLICY.format(*(b64encode(sha256(text.encode()).digest()).decode() for text in (script, style)))
    return _environment().get_template(template).render(policy=policy, script=script, style=style, **content)


def _joined(names):
    """Files of the templates as one text, as it will stand between the tags."""
    return "\n".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in names)


def inline(text):
    """JSON as it may stand in a script element: nothing in it can end the element or begin a comment."""
    return text.replace("<", "\\u003c")


@cache
def _environment():
    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True)
    environment.filters["inline"] = inline
    return environment


@cache
def _form():
    """What the look of pages depends on, and what their scripts do with the data."""
    return digest(b"".join(path.read_bytes() for path in sorted(_TEMPLATES.iterdir()) if path.is_file()))
