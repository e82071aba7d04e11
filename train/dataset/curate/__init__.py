"""Curation: rows by a recipe of named steps to a set that is split, counted and documented."""

from train.dataset.curate.pipeline import InputFault, Job, NothingLeft, curate
from train.dataset.curate.recipe import LoadedRecipe, Recipe, load_recipe
from train.dataset.curate.report import Report
from train.dataset.curate.review import Decisions, Review
from train.dataset.curate.stages import How

__all__ = [
    "Decisions",
    "How",
    "InputFault",
    "Job",
    "LoadedRecipe",
    "NothingLeft",
    "Recipe",
    "Report",
    "Review",
    "curate",
    "load_recipe",
]
