"""A real PostgreSQL on loopback."""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import psycopg

DEBIAN = Path("/usr/lib/postgresql")
USER = "mlflow"


def programs():
    """The folder of PostgreSQL's own programs; None where it is not installed."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return max(DEBIAN.glob("*/bin"), default=None)


@contextmanager
def running(log):
    """Start a server with an empty database.

    Args:
        log: File for what it says.

    Yields:
        The database's address, password and all.
    """
    folder, password = Path(tempfile.mkdtemp(prefix="mssync-postgres-")), secrets.token_hex(8)
    # it refuses to run as root, and pytest's own folders are closed to others
    other = {"user": "nobody", "extra_groups": []} if os.getuid() == 0 else {}
    if other:
        os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    try:
        (folder / "password").write_text(password)
        (folder / "password").chmod(0o644)
        subprocess.run(
            [
                programs() / "initdb",
                *("--pgdata", folder / "data", "--username", USER, "--auth", "scram-sha-256"),
                *("--pwfile", folder / "password", "--no-sync", "--encoding", "UTF8"),
            ],
            check=True,
            capture_output=True,
            cwd=folder,
            **other,
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off")
        with log.open("w") as output:
            process = subprocess.Popen(
                [
                    *(programs() / "postgres", "-D", folder / "data", "-p", str(port)),
                    *(argument for each in settings for argument in ("-c", each)),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                **other,
            )
        try:
            address = f"postgresql://{USER}:{password}@127.0.0.1:{port}"
            with _connected(f"{address}/postgres", process, log) as connection:
                connection.execute(f"CREATE DATABASE {USER}")
            yield f"{address}/{USER}"
        finally:
            process.terminate()  # waits for those who are connected, but not for long
            try:
                process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _connected(address, process, log):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return psycopg.connect(address, autocommit=True)
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise AssertionError(f"PostgreSQL did not come up:\n{log.read_text()}")
