"""Formulas for a terminal: the LaTeX of cards and docstrings as a line of plain letters."""

from __future__ import annotations

import re

LETTERS = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "epsilon": "ε",
    "varepsilon": "ε",
    "theta": "θ",
    "kappa": "κ",
    "lambda": "λ",
    "mu": "μ",
    "pi": "π",
    "sigma": "σ",
    "tau": "τ",
    "phi": "φ",
    "ell": "ℓ",
    "sum": "Σ",
    "prod": "Π",
    "propto": "∝",
    "ge": "≥",
    "geq": "≥",
    "le": "≤",
    "leq": "≤",
    "ne": "≠",
    "neq": "≠",
    "in": "∈",
    "cdot": "·",
    "times": "×",
    "to": "→",
    "infty": "∞",
    "partial": "∂",
    "nabla": "∇",
    "ldots": "...",
    "dots": "...",
    "|": "‖",
    "lVert": "‖",
    "rVert": "‖",
    "lvert": "|",
    "rvert": "|",
}
NOTHING = {"left", "right", "bigl", "bigr", "big", "Big", "!", ";", ":", " ", "displaystyle", "limits"}
AS_IT_IS = {"mathrm", "text", "operatorname", "mathbf", "mathcal", "textrm"}
OVER = {"bar": "\u0304", "hat": "\u0302", "tilde": "\u0303"}
FRACTION = "\0"
"""Stands behind a fraction while a formula is read."""
TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[{}^_]|[^\\{}^_]")


def readable(latex: str) -> str:
    r"""One formula in plain letters.

    Example:
        >>> from equipoise.formulas import readable
        >>> readable(r"-\sum_c y_c w_c (1 - p_c)^\gamma \log p_c")
        '-Σ_c y_c w_c (1 - p_c)^γ log p_c'
        >>> readable(r"\frac{N}{R_b M} \, \mathrm{CE}(z, y)")
        'N / (R_b M) · CE(z, y)'
    """
    words, _ = _read(TOKEN.findall(latex), 0)
    words = re.sub(FRACTION + r"[ ·]*(?=[\w(√|])", " · ", words).replace(
        FRACTION, ""
    )  # or it would divide what follows
    words = re.sub(r"\s+", " ", words)
    words = re.sub(r"(?<=[,(\[=∈≥≤+-]) ?·|·(?= ?[,)\]=])", "", words)  # a thin space there was no product
    return re.sub(r" +", " ", words).strip()


def readable_text(words: str) -> str:
    """A text whose formulas stand between dollars, with these in plain letters and on one line."""
    return re.sub(r"\$([^$]+)\$", lambda found: readable(found[1]), " ".join(words.split()))


def _read(signs: list[str], place: int, *, one: bool = False) -> tuple[str, int]:
    """The text of the signs from `place` to the end of their group, or of just one of them, and where that ends."""
    read = ""
    while place < len(signs) and signs[place] != "}":
        sign, place = signs[place], place + 1
        if one and sign == " ":
            continue
        if sign == "{":
            words, place = _read(signs, place)
            read, place = read + words, place + 1
        elif sign in ("^", "_"):
            words, place = _read(signs, place, one=True)
            read += sign + (words if re.fullmatch(r"[\w+*-]+|[\w]+\([\w]\)|.", words) else f"({words})")
        elif sign.startswith("\\"):
            words, place = _command(sign[1:], signs, place)
            read += words
        else:
            read += sign
        if one:
            break
    return read, place


def _command(name: str, signs: list[str], place: int) -> tuple[str, int]:
    """What a command and its arguments mean."""
    if name in ("frac", "tfrac", "dfrac"):
        above, place = _read(signs, place, one=True)
        below, place = _read(signs, place, one=True)
        return f"{_enclosed(above)} / {_enclosed(below)}{FRACTION}", place
    if name == "sqrt":
        words, place = _read(signs, place, one=True)
        return f"√({words})", place
    if name in OVER:
        words, place = _read(signs, place, one=True)
        return words + OVER[name], place
    if name in AS_IT_IS:
        return _read(signs, place, one=True)
    if name in NOTHING:
        return "", place
    if name == ",":
        return " · ", place
    if name in ("quad", "qquad"):
        return " ", place
    return LETTERS.get(name, name), place


def _enclosed(words: str) -> str:
    """A part of a fraction, in parentheses where it would read wrong without."""
    return words if re.fullmatch(r"\S+", words.strip()) else f"({words.strip()})"
