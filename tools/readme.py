"""Write the table of papers in README.md from the registry, between two markers.

python tools/readme.py           rewrite the file
python tools/readme.py --check   exit with status 1 where the file is not what the registry says
"""

import argparse
import re
import sys
from pathlib import Path

from mlpapers.core.paper import Paper, papers

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN = "<!-- papers: written by `make readme` -->"
END = "<!-- end of papers -->"


def describe_claims(paper: Paper) -> str:
    """Say how many of the paper's claims hold, as the registry declares and the tests enforce."""
    claims = paper.claims
    n_missed = sum(claim.known_miss is not None for claim in claims)
    return f"{len(claims) - n_missed} of {len(claims)}"


def paper_table(chosen: tuple[Paper, ...]) -> str:
    """Return the Markdown table of these papers."""
    rows = ["| paper | package | key | claims that hold |", "|---|---|---|---|"]
    for paper in chosen:
        title = f"[{paper.title}](https://arxiv.org/abs/{paper.arxiv})" if paper.arxiv else paper.title
        authors = f"{paper.authors[0]} et al." if len(paper.authors) > 2 else " and ".join(paper.authors)
        cells = [f"{title}, {authors}, {paper.year}", f"`{paper.package}`", f"`{paper.key}`"]
        rows.append(f"| {' | '.join([*cells, describe_claims(paper)])} |")
    return "\n".join(rows)


def rewrite(text: str, table: str) -> str:
    """Return `text` with `table` between the markers; ValueError unless both stand there once."""
    pattern = re.compile(rf"({re.escape(BEGIN)}\n).*?({re.escape(END)})", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"README.md must hold the markers {BEGIN!r} and {END!r} once, in this order")
    return pattern.sub(lambda match: f"{match[1]}{table}\n{match[2]}", text)


def released_papers() -> tuple[Paper, ...]:
    """Return the library's own papers; those of other distributions are not the README's."""
    return tuple(paper for paper in papers() if paper.package.startswith("mlpapers."))


def main() -> int:
    """Rewrite or check the file; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    before = README.read_text(encoding="utf-8")
    after = rewrite(before, paper_table(released_papers()))
    if before == after:
        return 0
    if check:
        print("README.md does not show what the registry says: run `make readme`", file=sys.stderr)
        return 1
    README.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
