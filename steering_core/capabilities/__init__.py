"""Capabilities: sets of questions and tasks that say what else a model can do, and how it answers what is harmful."""

from steering_core.capabilities.read import available_sets, check_names, load_set, load_sets
from steering_core.capabilities.sets import CapabilitySet, Demand, Question, Task

__all__ = ["CapabilitySet", "Demand", "Question", "Task", "available_sets", "check_names", "load_set", "load_sets"]
