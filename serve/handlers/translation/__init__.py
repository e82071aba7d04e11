"""The translation task: languages and their detection; texts and files translated by a model, their form kept."""
