r"""One answer written in many ways."""

from __future__ import annotations

import pytest

from unigrad.verify.notation import spell, unwrap_gold


@pytest.mark.parametrize(
    ("answer", "spelled"),
    [
        (r"\left( 3, \frac{\pi}{2} \right)", r"( 3, \frac{\pi}{2} )"),
        (r"\dfrac{1}{2}", r"\frac{1}{2}"),
        (r"11,\! 111,\! 100", "11,111,100"),
        (r"10\,080", "10,080"),
        (r"3{,}5", "3.5"),
        (r"90^{\circ}", r"90^\circ"),
        ("90°", r"90^\circ"),
        (r"864 \mbox{ inches}^2", "864 ⟨inches⟩"),
        ("18 dollars", "18 ⟨dollars⟩"),
        ("15cm^2", "15⟨cm⟩"),
        (r"\SI{12}{\kilo\meter}", "12 ⟨kilo meter⟩"),
        ("2 sin x", "2 \\sin x"),
        ("2abx", "2abx"),
        (r"\frac{mg}{b}", r"\frac{mg}{b}"),
        ("a b c", "a b c"),
        ("v = at", "v = at"),
        (r"50\%", "50%"),
        (r"\begin{pmatrix} 1 \\[2pt] 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
        (r"\leftarrow", r"\leftarrow"),
        ("２０４", "204"),
        ("−5½", r"-5\frac{1}{2}"),
        ("2x² − 10⁻³", "2x^{2} - 10^{-3}"),
        ("√11 + 3√x + √(2)", r"\sqrt{11} + 3\sqrt{x} + \sqrt{2}"),
        (r"3\sqrt(5)", r"3\sqrt{5}"),
        ("2*pi", r"2*\pi"),
        (r"\mathbf{113}", "113"),
        (r"2+3\mathrm{i}", "2+3i"),
        (r"{\bf 12}", "12"),
        (r"\textcolor{red}{5}", "5"),
        (r"2.3 \, \frac{\text{kg}}{\text{m}^3}", "2.3 ⟨kg/m⟩"),
        (r"2 \mathrm{~erg} \mathrm{~s}^{-1}", "2 ⟨erg s⟩"),
        (r"0.\dot{1}4\dot{2}", r"0.\overline{142}"),
        (r"1, 2, \dots, n", r"1, 2, \ldots , n"),
        (r"\\frac{1}{2}", r"\frac{1}{2}"),
        (r"1 \\ \frac{1}{2}", r"1 \\ \frac{1}{2}"),
        ("45元", "45⟨元⟩"),
        ("", ""),
    ],
)
def test_spelling(answer: str, spelled: str) -> None:
    assert spell(answer) == spelled


@pytest.mark.parametrize(
    ("answer", "gold"),
    [('["256"]', "256"), ("['\\\\frac{1}{2}']", r"\frac{1}{2}"), ('["3", "4"]', "3, 4"), ("[2, 3]", "[2, 3]")],
)
def test_a_gold_answer_within_a_list_of_one_text(answer: str, gold: str) -> None:
    assert unwrap_gold(answer) == gold
