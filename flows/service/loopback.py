"""The names of this machine's own address; apart, since Prefect's plug-in needs it while Prefect is being imported."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
