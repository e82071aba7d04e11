"""A training run: from a recipe to an adapter, on Ray Train."""

from train.finetune.recipe import Recipe, load_recipe, parse_recipe

__all__ = ["Recipe", "load_recipe", "parse_recipe"]
