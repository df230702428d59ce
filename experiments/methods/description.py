"""What a class's docstring says of the method it implements."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Description:
    """A method in words.

    Attributes:
        summary: the first sentence, without its formula.
        formula: as in the docstring; empty if there is none.
        source: the paper, or papers; empty if there is none.
        deviation: where and why it differs from the paper; empty if it does not.
    """

    summary: str
    formula: str
    source: str
    deviation: str

    @property
    def citation(self) -> str:
        """Of each paper the authors, the year and the number: "Chen et al. 2021, arXiv:2107.04197"."""
        cited = []
        for paper in self.source.rstrip(".").split("; "):
            number = re.search(r"arXiv:\S+", paper)
            authors = re.match(r"[^,]*?\d{4}", paper)
            cited.append(", ".join(part[0].rstrip(",") for part in (authors, number) if part) or paper)
        return "; ".join(cited)


def describe(method: type) -> Description:
    """Read the docstring of `method`.

    The formula is what stands in backticks at the end of the first paragraph, and the indented blocks of the
    prose. Paragraphs that begin with "Source:" and "Deviation:" are the paper and where the code differs.

    Raises:
        ValueError: there is no docstring.
    """
    text = inspect.cleandoc(method.__doc__ or "")
    if not text:
        raise ValueError(f"{method.__name__} must have a docstring: it is what the documents say of it.")
    # Examples, and sections such as "Attributes:", which are not about the method.
    prose = re.split(r"\n\n(?:>>>|[A-Z][a-z]+:\n)", text)[0]
    paragraphs = re.split(r"\n\s*\n|\n(?=Deviation: )", prose)
    first, *rest = paragraphs
    summary = " ".join(first.split())
    # After a comma or a colon, and no bare name.
    inline = re.search(r"[,:] (`\w*[^\w`][^`]*`(?: with `[^`]+`)?)\.$", summary)
    if inline:
        summary = summary[: inline.start()] + "."
    blocks = [inspect.cleandoc(paragraph) for paragraph in rest if paragraph.startswith("    ")]
    # Not code, which makes objects.
    blocks = [block for block in blocks if not re.search(r"\b[A-Z][a-z]\w*\(", block)]
    formulas = ([inline[1].replace("`", "")] if inline else []) + blocks
    return Description(summary, "\n".join(formulas), _named("Source", rest), _named("Deviation", rest))


def _named(name: str, paragraphs: list[str]) -> str:
    found = [paragraph for paragraph in paragraphs if paragraph.startswith(f"{name}: ")]
    return " ".join(" ".join(paragraph.split()).removeprefix(f"{name}: ") for paragraph in found)
