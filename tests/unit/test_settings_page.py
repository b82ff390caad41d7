"""docs/settings.md says what the settings say, of each of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from headrace import settings_page
from headrace.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_made_of_the_settings() -> None:
    made = settings_page.page()
    assert (DOCS / "settings.md").read_text() == made, "python -m headrace.settings_page > docs/settings.md"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_each_setting_says_what_it_is(name: str) -> None:
    assert Settings.model_fields[name].description
    assert f"`{settings_page.variable_of(name)}`" in settings_page.page()
    assert settings_page.heading_of(name)


def test_what_no_heading_is_for_is_no_setting_yet() -> None:
    with pytest.raises(KeyError, match="colour"):
        settings_page.heading_of("colour_of_the_night")


def test_every_setting_that_the_docs_name_is_one() -> None:
    """But for those of the command line, of laptop mode and of a job's pods."""
    others = {f"HEADRACE_{name}" for name in ("URL", "API_KEY", "DATA", "OUTPUT", "SQL_SETTINGS", "SQL_DRAWS")}
    known = {f"HEADRACE_{name.upper()}" for name in Settings.model_fields} | others
    for file in [*DOCS.glob("*.md"), DOCS.parent / "README.md"]:
        named = set(re.findall(r"`(HEADRACE_[A-Z0-9_]+)(?:=[^`]*)?`", file.read_text()))
        assert {name for name in named if not name.endswith("_") and not name.startswith("HEADRACE_TESTS")} <= known, (
            file
        )
