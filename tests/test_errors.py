"""What a message takes over from somebody else's exception."""

from __future__ import annotations

import pytest

from mgot.errors import reason, shortened

NETWORK = (
    "HTTPSConnectionPool(host='drive.example', port=443): Max retries exceeded with url: /uc?id=1x (Caused by"
    " NameResolutionError(\"HTTPSConnection(host='drive.example', port=443): Failed to resolve 'drive.example'\"))"
)


def test_a_reason_is_the_first_line_or_the_types_name() -> None:
    assert reason(OSError("  one\ntwo")) == "one"
    assert reason(KeyError()) == "KeyError"
    assert reason(OSError(NETWORK)) == NETWORK


@pytest.mark.parametrize("limit", range(60, len(NETWORK)))
def test_a_cut_comes_after_a_word(limit: int) -> None:
    cut = shortened(NETWORK, limit)
    kept = cut.removesuffix(" ...")
    assert len(kept) <= limit and cut != kept and NETWORK.startswith(kept)
    assert NETWORK[len(kept)] in " ,:" and kept.count("(") == kept.count(")")


def test_a_long_bracket_is_cut_within_rather_than_left_out() -> None:
    assert shortened("so (" + "word " * 30 + ")", 52) == "so (" + " ".join(["word"] * 9) + " ..."
    assert shortened("x" * 30, 10) == "x" * 10 + " ..."
