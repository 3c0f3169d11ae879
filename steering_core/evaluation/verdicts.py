"""The four verdicts of a recommendation, by the words that rows and reports have."""

WORKS, WEAK, CHANCE, TOO_FEW = "works", "weak", "no better than random", "too few to tell"
