"""The methods of the field that this project has, by name."""

from rlsched.experiments.methods.catalogue import METHODS, CatalogueEntry, find
from rlsched.experiments.methods.description import Description, describe

__all__ = ["METHODS", "CatalogueEntry", "Description", "describe", "find"]
