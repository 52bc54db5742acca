"""How much memory and traffic a training needs under each strategy, and which to take: formulas, nothing
else."""
