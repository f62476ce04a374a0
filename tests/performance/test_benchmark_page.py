"""The page of the benchmarks: sections are replaced one by one, and what exceeds its limit stands out."""

from benchmarks.measure import Row, page, table


def test_a_figure_above_its_limit_stands_out() -> None:
    rows = [
        Row("boot", 7.25, limit=6.0),
        Row("entries", 100_000.0, "", note="file"),
        Row("append", 1.5, "×", 2),
    ]
    assert [row.is_exceeded for row in rows] == [True, False, False]
    assert table(rows).splitlines()[2:] == [
        "| boot | **7.25 s** | 6 s |  |",
        "| entries | 100,000  |  | file |",
        "| append | 1.5 × | 2 × |  |",
    ]


def test_a_new_section_replaces_the_older_one_of_its_name_only() -> None:
    names = ("suite", "ledger")
    first = page("", {"ledger": "stale", "suite": "| a |\n| b |"}, names)
    second = page(first, {"ledger": "new"}, names)
    assert "stale" not in second
    assert second.index("## suite\n\n| a |\n| b |\n") < second.index("## ledger\n\nnew\n")
    assert page(second, {}, names) == second
    assert "## suite" not in page(second, {}, ("ledger",))
