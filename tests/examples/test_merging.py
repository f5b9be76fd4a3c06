"""Two models that each know half of the digits, merged into one that knows all: better the more data says."""

import merging


def test_merged_by_data_beats_the_average_and_both_parents():
    table = merging.table()
    alone = [table[name] for name in ("low digits", "high digits")]
    assert [row[i][1] > 0.95 for row, i in zip(alone, (0, 1), strict=True)] == [True, True]
    assert all(row[2][1] < 0.6 for row in alone)
    losses = {name: row[2][0] for name, row in table.items()}
    assert losses["gram"] < 0.6 * losses["average"]
    assert losses["kronecker"] < 0.7 * losses["average"]
    assert losses["fisher"] < 0.95 * losses["average"]
    assert table["gram"][2][1] > 0.9 > table["average"][2][1]
