"""The service round the flows: server, workers, deployments, and what survives when one of them dies."""
