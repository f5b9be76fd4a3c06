"""`tdsl prove`: states of rules, counterexamples, and what is on record."""

import json

import pytest

from tdsl import load
from tdsl.errors import TdslError

RIGHT = "rule twice { relu(relu(x)) => relu(x) }\n"
WRONG = "rule order { (x: [n, n]) @ (y: [n, n]) => y @ x }\n"


def test_a_rule_is_proved_and_the_next_time_read_from_the_record(tdsl, folder):
    (folder / "r.tdsl").write_text(RIGHT, encoding="utf-8")
    first, again = tdsl("prove", "r.tdsl", "--json"), tdsl("prove", "r.tdsl", "--json")
    assert (first.status, again.status) == (0, 0)
    [rule] = json.loads(first.out)["rules"]
    assert (rule["name"], rule["status"], rule["line"]) == ("r.twice", "proved", 1)
    assert rule["error_probability"] < 1e-6
    assert again.out == first.out


def test_a_wrong_rule_is_shown_with_a_counterexample(tdsl, folder):
    (folder / "r.tdsl").write_text(RIGHT + WRONG, encoding="utf-8")
    outcome = tdsl("prove", "r.tdsl")
    assert outcome.status == 1
    assert "r.twice  proved" in outcome.out
    assert "r.tdsl:2:43: error: rule order is wrong: the sides differ" in outcome.out
    assert "every instance tried is right where n == 1" in outcome.out
    assert "2 rules: 1 proved, 1 refuted" in outcome.out


def test_a_wrong_rule_does_not_load(folder):
    (folder / "r.tdsl").write_text(WRONG, encoding="utf-8")
    with pytest.raises(TdslError, match="rule order is wrong"):
        load(folder / "r.tdsl")


def test_two_rules_of_one_name_are_a_mistake_though_each_is_right(tdsl, folder):
    (folder / "r.tdsl").write_text(RIGHT + RIGHT, encoding="utf-8")
    outcome = tdsl("prove", "r.tdsl")
    assert outcome.status == 1
    assert "r.tdsl:2:1: error: r.twice is declared twice" in outcome.err


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("rule sum_away { relu(x) => sum(x, [0]) }", "the two sides have different shapes"),
        ("rule sum_away { relx(x) => x }", "there is no operator or function `relx`"),
    ],
)
def test_what_is_no_rule_is_invalid_and_the_others_are_still_proved(tdsl, folder, rule, reason):
    (folder / "r.tdsl").write_text(f"{rule}\n{RIGHT}", encoding="utf-8")
    outcome = tdsl("prove", "r.tdsl")
    assert outcome.status == 1
    assert f"r.sum_away  invalid  {reason}" in outcome.out
    assert "r.twice" in outcome.out
    assert "2 rules: 1 proved, 1 invalid" in outcome.out


def test_verdicts_can_be_written_to_a_file(tdsl, folder):
    (folder / "r.tdsl").write_text(RIGHT, encoding="utf-8")
    assert tdsl("prove", "r.tdsl", "--record", "proofs.json").status == 0
    [verdict] = json.loads((folder / "proofs.json").read_text(encoding="utf-8"))["rules"].values()
    assert verdict["status"] == "proved"
    assert tdsl("prove", "r.tdsl", "--record", "again.json").status == 0  # nothing is left to be proved
    assert (folder / "again.json").read_bytes() == (folder / "proofs.json").read_bytes()


def test_what_another_process_proved_meanwhile_stays_on_record(monkeypatch, tmp_path):
    from tdsl.prove import record
    from tdsl.prove.verdict import Verdict

    monkeypatch.setattr(record, "_own_path", lambda: tmp_path / "proofs.json")
    monkeypatch.setattr(record, "_own", lambda: record.Record({}, {}))
    record.remember({"mine": Verdict("proved", "on one instance")})
    record.remember({"theirs": Verdict("proved", "on one instance")})
    assert sorted(record._read(tmp_path / "proofs.json").verdicts) == ["mine", "theirs"]


def test_a_damaged_record_is_made_anew(tdsl, folder, monkeypatch):
    from tdsl.prove import record

    path = folder / "damaged.json"
    path.write_text("{", encoding="utf-8")
    assert record._read(path) == record.Record()
