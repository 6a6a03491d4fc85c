"""docs/errors.md says what the source says."""

from support.errors_page import PAGE, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: python tests/support/errors_page.py"
