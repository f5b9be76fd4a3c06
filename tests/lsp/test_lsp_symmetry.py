"""Groups, actions and symmetries while they are written."""

from __future__ import annotations

RIGHT = """\
group C4 = cyclic(4)

action turn of C4 on [..., H, W] {
    generator: rot90(x, dims=(H, W))
}

symmetry digits {
    group C4
    input image: [N, C, H, W] by turn
    output logits: [N, K] invariant
}
"""


def test_a_right_contract_has_no_mistakes(editor):
    assert editor.mistakes(RIGHT) == []


def test_names_that_are_not_there_are_underlined(editor):
    wrong = RIGHT.replace("by turn", "by tun")
    [mistake] = editor.mistakes(wrong)
    assert "there is no action `tun`" in str(mistake)
    [mistake] = editor.mistakes(RIGHT.replace("cyclic(4)", "cyclic(3)"))
    assert "turn is no action of cyclic(3)" in str(mistake)


def test_the_facts_of_a_function_are_shown(editor):
    shown = editor.hover("rule r {\n    tan|h(x)\n  =>\n    tanh(-(-x))\n}\n")
    assert "odd" in shown


CHECKED = RIGHT + "\npipeline p {\n    check symmetry digits within 0.1\n}\n"


def test_a_pipeline_that_checks_a_symmetry_of_its_file_has_no_mistakes(editor):
    assert editor.mistakes(CHECKED) == []


def test_a_checked_symmetry_that_is_not_there_is_underlined(editor):
    [mistake] = editor.mistakes(CHECKED.replace("symmetry digits within", "symmetry digts within"))
    assert "there is no symmetry `digts`" in str(mistake)


def test_symmetries_are_offered_where_one_is_checked(editor):
    text = RIGHT + "\npipeline p {\n    check error <= 1%, "
    assert "symmetry" in editor.offers(text + "|")
    assert "digits" in editor.offers(text + "symmetry |")
    assert "within" in editor.offers(text + "symmetry digits |")
    assert "cosine" not in editor.offers(text + "symmetry digits within |")
