"""An object store for tests: moto's server, which speaks S3's protocol on loopback."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from s3fs import S3FileSystem


@contextmanager
def s3_bucket() -> Iterator[str]:
    """s3://… of an empty bucket, with the environment in which this process and those that it starts reach it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url, name = f"http://127.0.0.1:{port}", f"steer-{uuid.uuid4().hex[:8]}"
    given = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    S3FileSystem.clear_instance_cache()  # those of an earlier server know its address alone
    try:
        _make_bucket(f"{url}/{name}")
        yield f"s3://{name}"
    finally:
        S3FileSystem.clear_instance_cache()
        server.terminate()
        server.wait()
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def _make_bucket(url: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="PUT"))
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
        else:
            return
    raise AssertionError("moto's server did not start")
