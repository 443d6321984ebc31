"""What messages quote of the errors of other packages."""

import pytest

from edgedistill_serve.errors import first_line


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ValueError("no such file\nat line 3"), "no such file"),
        # The errors of transformers about missing packages begin with a line break.
        (ImportError("\nAutoModel requires torch.\n"), "AutoModel requires torch."),
        (AssertionError(), "AssertionError"),
        (RuntimeError(" \n"), "RuntimeError"),
    ],
)
def test_the_first_line_with_a_text_is_shown_or_the_type_of_the_error(error, shown):
    assert first_line(error) == shown
