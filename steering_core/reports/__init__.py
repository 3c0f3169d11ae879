"""Reports: stored results as tables in a terminal, an HTML page, a Prefect artifact, and charts."""
