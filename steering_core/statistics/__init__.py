"""Statistics: intervals, tests of chance and separation of numbers, and the names of the metrics they are about."""
