"""Directives that read the registry: tables of claims and of papers, and citations."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from tabular import paragraph, table

from mlpapers.core.paper import Claim, Paper, find_paper, papers


def _claim_row(claim: Claim) -> list[nodes.Node]:
    statement = nodes.container("", paragraph(claim.statement))
    needs = [name.removeprefix("package:") for name in claim.requires]
    remarks = [f"needs {', '.join(needs)}"] if needs else []
    remarks += ["asserts speed: runs alone"] if claim.timed else []
    if remarks:
        statement += nodes.paragraph("", "; ".join(remarks), classes=["claim-remark"])
    if claim.known_miss is not None:
        statement += nodes.paragraph("", f"Does not hold: {claim.known_miss}", classes=["claim-miss"])
    return [nodes.paragraph("", "", nodes.literal("", claim.name)), statement, paragraph(claim.source)]


class _RegistryDirective(SphinxDirective):
    required_arguments = 1

    def paper(self) -> Paper:
        try:
            return find_paper(self.arguments[0])
        except ValueError as error:
            raise self.error(str(error)) from None


class ClaimsDirective(_RegistryDirective):
    """All claims of a paper: id, statement, source in the paper."""

    def run(self) -> list[nodes.Node]:
        paper = self.paper()
        if not paper.claims:
            raise self.error(f"the paper {paper.key} registers no claims")
        rows = [_claim_row(claim) for claim in paper.claims]
        return [table(["claim", "statement", "in the paper"], rows, [10, 65, 25], "claims-table")]


class CitationDirective(_RegistryDirective):
    """Authors, title, venue and link of a paper."""

    def run(self) -> list[nodes.Node]:
        paper = self.paper()
        citation = nodes.paragraph(classes=["paper-citation"])
        citation += nodes.Text(f"{', '.join(paper.authors)}: ")
        citation += nodes.emphasis("", paper.title)
        citation += nodes.Text(f". {paper.venue}, {paper.year}. ")
        if paper.arxiv:
            url = f"https://arxiv.org/abs/{paper.arxiv}"
            citation += nodes.reference("", f"arXiv:{paper.arxiv}", refuri=url)
        elif paper.doi:
            citation += nodes.reference("", f"doi:{paper.doi}", refuri=f"https://doi.org/{paper.doi}")
        return [citation]


class PapersDirective(SphinxDirective):
    """All papers of the library, each with a link to its page."""

    def run(self) -> list[nodes.Node]:
        rows: list[list[nodes.Node]] = []
        for paper in papers():
            if not paper.package.startswith("mlpapers."):
                continue
            link, _ = self.parse_inline(f":doc:`{paper.title} </papers/{paper.key}>`")
            missed = sum(claim.known_miss is not None for claim in paper.claims)
            held = f"{len(paper.claims) - missed} of {len(paper.claims)}"
            title = nodes.paragraph("", "", *link, nodes.Text(f", {paper.authors[0]} et al., {paper.year}"))
            package = nodes.paragraph("", "", nodes.literal("", paper.package))
            rows.append([title, package, paragraph(held)])
        return [table(["paper", "package", "claims that hold"], rows, [60, 22, 18], "papers-table")]


def _outdated(_app: Sphinx, env: BuildEnvironment, *_: set[str]) -> list[str]:
    """Name the pages that show the registry: it changes without them, so they are read every time."""
    return [name for name in env.found_docs if name == "index" or name.startswith("papers/")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("claims", ClaimsDirective)
    app.add_directive("citation", CitationDirective)
    app.add_directive("papers", PapersDirective)
    app.connect("env-get-outdated", _outdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
