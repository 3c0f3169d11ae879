"""Foundation: what every other package may use and what uses none: errors, keys, bounds, files, locks, counting."""
