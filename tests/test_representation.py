"""How objects show themselves in a terminal and in a notebook."""

import re

from stemvane.data.representation import Representable, as_html, as_text, format_quantity, format_shape, format_size


def test_text_keeps_to_eight_lines_of_a_hundred_and_twenty_columns():
    rows = [(f"quantity {i}", "x" * 200) for i in range(12)]
    lines = as_text("title", rows).splitlines()
    assert len(lines) == 8
    assert max(map(len, lines)) == 120
    assert "quantity 11" in lines[-1]
    assert as_text("title", rows[:7]).count("\n") == 7


def test_a_value_with_a_line_break_is_one_line():
    assert as_text("title", [("path", "one\ntwo")]) == "title\n  path  one two"


def test_html_holds_every_row_and_nothing_that_is_run():
    text = as_html("<script>", [("a & b", "<img onerror=x>"), *[(str(i), "") for i in range(12)]])
    assert "<script>" not in text
    assert "<img" not in text
    assert "a &amp; b" in text
    assert text.count("<tr") == 13
    # a colour of its own would be unreadable on either dark or light ground
    assert not re.search(r"#[0-9a-f]{3}|rgb|white|black", text)


def test_numbers_carry_their_units():
    assert format_quantity((0.16, 0.16), "Å") == "0.16 Å"
    assert format_quantity((31.5, 32.0), "px") == "31.5, 32 px"
    assert format_quantity(None, "mrad") == "unknown"
    assert format_shape((64, 32)) == "64 × 32"
    assert format_size(1_073_741_824) == "1.07 GB"


def test_an_object_gives_title_and_rows_once():
    class Thing(Representable):
        def _summary(self):
            return "Thing", [("size", "3 Å")]

    assert repr(Thing()) == "Thing\n  size  3 Å"
    assert "3 Å" in Thing()._repr_html_()
