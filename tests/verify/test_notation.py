r"""One answer written in many ways."""

from __future__ import annotations

import pytest

from unigrad.verify.notation import as_latex, normalise, units_clash


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        (r"\left( 3, \frac{\pi}{2} \right)", r"( 3, \frac{\pi}{2} )"),
        (r"\dfrac{1}{2}", r"\frac{1}{2}"),
        (r"\$32,\!348", "32,348"),
        (r"11,\! 111,\! 100", "11,111,100"),
        (r"10\,080", "10,080"),
        (r"90^\circ", "90"),
        (r"90^{\circ}", "90"),
        (r"f^\circledast", r"f^\circledast"),
        (r"864 \mbox{ inches}^2", "864"),
        (r"5.4 \text{ cents}.", "5.4"),
        ("18 dollars", "18"),
        ("15 cm^2", "15"),
        ("60 miles per hour.", "60"),
        ("2 sin x", "2 sin x"),
        (r"\text{even}", r"\text{even}"),
        (r"3 \text{ or } 4", r"3 \text{ or } 4"),
        (r"50\%", "50%"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
        (r"\leftarrow", r"\leftarrow"),
        ("２０４", "204"),
        ("−5½", r"-5\frac{1}{2}"),
        ("2x² − 10⁻³", "2x^{2} - 10^{-3}"),
        ("√11 + 3√x", r"\sqrt{11} + 3\sqrt{x}"),
        ("3 ± √2", r"3 \pm \sqrt{2}"),
        (r"4{:}15 \text{ p.m.}", "4:15"),
        ("125 000", "125000"),
        ("3 1/2", r"3\frac{1}{2}"),
        ("6.4 x 10^-7", r"6.4\times 10^-7"),
        (r"v \approx 0.5", "v = 0.5"),
        (r"\mathbf{113}", "113"),
        (r"2+3\mathrm{i}", "2+3i"),
        (r"2.3 \times 10^{31} \, \frac{\text{kg}}{\text{m}^3}", r"2.3\times 10^{31}"),
        (r"2 \mathrm{~erg} \mathrm{~s}^{-1}", "2"),
        (r"275 \text{ is wrong}", r"275 \text{ is wrong}"),
        ("3 or more", "3 or more"),
        (r"\text{Total: } 17", "17"),
        (r"\text{It is not } 17", r"\text{It is not } 17"),
        (r"640 \pmod{1000}", "640"),
        (r"\textbf{(D) }48", "48"),
        ("(D) 48", "48"),
        (r"\text{(D)}", r"\text{(D)}"),
        (r"\begin{pmatrix} 1 \\[2pt] 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    ],
)
def test_normalise(answer: str, normal: str) -> None:
    assert normalise(answer) == normal


@pytest.mark.parametrize(
    ("answer", "latex"),
    [
        ("-4.5e33", r"-4.5 \times 10^{33}"),
        ("3e^{-2t}", "3e^{-2t}"),
        ("3/4", "3/4"),
        ("y''-y'", r"y^{\prime \prime }-y^{\prime }"),
        (r"\log_e 5", r"\ln 5"),
        ("2E_{1}", r"2\mathcal{E}_{1}"),
        (r"1, \frac{5 \pm 2}{3}", r"1, \frac{5 + 2}{3}, \frac{5 - 2}{3}"),
        (r"1 \pm 2 \mp x", r"1 + 2 - x, 1 - 2 + x"),
        (r"(\pm 1, 2)", r"(\pm 1, 2)"),
        (r"5 \pmod 3", r"5 \pmod 3"),
        (r"0.\overline{36}", r"\frac{36}{99}"),
        (r"-2.1\overline{6}", r"-\frac{195}{90}"),
        (r"1.25\overline{3}4", r"1.25\overline{3}4"),
        ("7>k>1", "1 < k < 7"),
        (r"7 \ge x_1 > -\frac{1}{2}", r"-\frac{1}{2} < x_1 \le  7"),
        ("7 > k < 9", "7 > k < 9"),
        ("a > b > c > d", "a > b > c > d"),
    ],
)
def test_what_math_verify_misreads_is_rewritten(answer: str, latex: str) -> None:
    assert as_latex(answer) == latex


@pytest.mark.parametrize(
    ("extracted", "gold", "clash"),
    [
        (r"27 \text{ m}^2", r"27\mbox{ cm}^2", True),
        ("27 square inches", "27 cm", True),
        (r"\$5.40", r"5.4 \text{ cents}", True),
        (r"7:20 \text{ a.m.}", r"7:20 \text{ p.m.}", True),
        ("27 centimeters", r"27\mbox{ cm}", False),
        ("27", "27 cm", False),
        ("27 elephants", "27 cm", False),
        (r"$27 \text{ cm}$", "27 cm", False),
        (r"\mu g m", r"\mu m g", False),
    ],
)
def test_two_known_units_must_be_the_same(extracted: str, gold: str, clash: bool) -> None:
    assert units_clash(extracted, gold) == clash
