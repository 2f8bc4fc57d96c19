"""Sphinx configuration. The build needs no network, and every warning in it is an error."""

import importlib.util
import sys
from pathlib import Path

import mlpapers

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_ext"))


def _mathjax() -> Path:
    """MathJax as one file, with its glyphs: formulas show without a network."""
    spec = importlib.util.find_spec("mathjax")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "the documentation needs django-static-mathjax: pip install 'mlpapers[docs]'"
        )
    return Path(spec.origin).parent / "static" / "mathjax" / "es5" / "tex-svg.js"


project = "mlpapers"
author = "The mlpapers developers"
project_copyright = author
version = release = mlpapers.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "api",
    "claims",
    "full_scale",
    "timings",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_ext", "gallery/**/*.ipynb", "gallery/**/*.py"]
default_role = "code"

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
# PR01 (a parameter without a description) is left out: the fields of a dataclass are described as attributes.
numpydoc_validation_checks = {"GL03", "GL07", "GL08", "GL10", "PR02", "PR03", "PR05"}
numpydoc_validation_exclude = {r"\.Scale$"}  # a type alias, which cannot have a docstring

html_theme = "pydata_sphinx_theme"
html_title = "mlpapers"
html_static_path = ["_static", str(_mathjax())]
toc_object_entries_show_parents = "hide"
html_css_files = ["mlpapers.css"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "tango",
}
html_sidebars = {"index": [], "benchmarks": [], "full_scale": []}  # pages without neighbours
mathjax_path = "tex-svg.js"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "first_notebook_cell": "%matplotlib inline",
    "min_reported_time": 0,
    "reference_url": {},
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
}
