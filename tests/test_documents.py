"""The documents against the program: every section that the code cites is there, every link leads somewhere."""

import re
import shlex
from pathlib import Path

import pytest

import settings
from util.configuration import read_settings

PROJECT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([PROJECT / "README.md", *PROJECT.glob("docs/*.md"), *PROJECT.glob("[a-z]*/README.md")])


def test_every_cited_section_of_the_method_has_a_heading():
    headings = set(re.findall(r"^#+ (\d+(?:\.\d+)?)\.? ", (PROJECT / "docs/method.md").read_text(), re.MULTILINE))
    cited = {}
    for path in [*PROJECT.glob("*.py"), *PROJECT.glob("*/*.py"), *DOCUMENTS]:
        for section in re.findall(r"§(\d+(?:\.\d+)?)", path.read_text()):
            cited.setdefault(section, path.name)
    assert len(cited) > 10 and not {section: name for section, name in cited.items() if section not in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_links_lead_somewhere(document):
    text = document.read_text()
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        leads_to = (document.parent / target).resolve() if target else document
        assert leads_to.exists(), f"{document.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", leads_to.read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in anchors, f"{document.name}: {target}#{anchor}"


def test_the_readme_is_short_and_links_every_page():
    text = (PROJECT / "README.md").read_text()
    assert text.count("\n") < 250
    for page in PROJECT.glob("docs/*.md"):
        assert f"(docs/{page.name})" in text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_modules_and_settings_that_are_named_exist(document):
    for module in re.findall(r"python -m ([a-z]+\.[a-z_]+)", document.read_text()):
        assert (PROJECT / (module.replace(".", "/") + ".py")).exists(), f"{document.name} names {module}"
    for words in re.findall(r"^python (?:main|nl_bias|cluster_top)\.py(.*)$", document.read_text(), re.MULTILINE):
        read_settings(settings, shlex.split(words, comments=True), "a script")
    for name in re.findall(r"`([A-Z]{3,}(?:_[A-Z]+)*)=", document.read_text()):
        assert hasattr(settings, name), f"{document.name} names {name}"
