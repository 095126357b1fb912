"""Settings of the documentation site; ``make docs`` builds it into ``build/docs``."""

from __future__ import annotations

import inspect
from functools import cached_property
from typing import Any

from numpydoc.xref import DEFAULT_LINKS

import stemvane

project = "stemvane"
author = "The stemvane developers"
copyright = "the stemvane developers"
release = version = stemvane.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_templates", "examples", "gallery/**/*.ipynb", "**.ipynb_checkpoints"]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}

# pages: the headings have the anchors that they have on a code host, so that links hold in both places
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

# notebooks are kept without their output and executed with every build
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True


def members(thing: type) -> dict[str, list[str]]:
    """Public methods and properties of a class that are written in this package, not in what it builds upon."""
    names: dict[str, list[str]] = {"methods": [], "properties": []}
    for kind in thing.__mro__:
        if not kind.__module__.startswith("stemvane"):
            continue
        for name, member in vars(kind).items():
            if name.startswith("_") or any(name in listed for listed in names.values()):
                continue
            if isinstance(member, property | cached_property):
                names["properties"].append(name)
            elif inspect.isfunction(member) or isinstance(member, classmethod | staticmethod):
                names["methods"].append(name)
    return names


# the reference: one page for each public name, with the members that the template lists
public: dict[str, Any] = {f"stemvane.{name}": getattr(stemvane, name) for name in stemvane.__all__}
autosummary_context = {
    "public_members": {name: members(thing) for name, thing in public.items() if inspect.isclass(thing)},
}
autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"
# our own classes are linked; those of Python and NumPy are not, since their pages are elsewhere
numpydoc_xref_aliases = {name: name for name in DEFAULT_LINKS} | {name.split(".")[1]: name for name in public}
add_module_names = False
default_role = "py:obj"  # a name between single backticks leads to its page where it has one
toc_object_entries_show_parents = "hide"

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "subsection_order": [f"examples/{folder}" for folder in ("scans", "fields", "models", "defects", "runs")],
    "within_subsection_order": "FileNameSortKey",
    "doc_module": ("stemvane",),
    "backreferences_dir": "gallery/backreferences",
    "image_scrapers": ("matplotlib",),
    "matplotlib_animations": False,
    "remove_config_comments": True,
    "min_reported_time": 5,
    "show_memory": False,
    "show_signature": False,
    "download_all_examples": False,
    "plot_gallery": "True",
}

html_theme = "pydata_sphinx_theme"
html_title = "stemvane"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "stemvane"},
    "header_links_before_dropdown": 8,
    "navbar_persistent": ["search-button"],
    "navigation_with_keys": False,
    "show_prev_next": True,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "pygments_light_style": "tango",
}
html_sidebars = {"index": []}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
