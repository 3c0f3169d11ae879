"""What several verbs of the command line share: options, how their values are read, and tables that they print."""
