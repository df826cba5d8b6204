#!/usr/bin/env python3
"""Start MLflow's server with authentication, PostgreSQL and an artifact store, all taken from the environment.

Becomes ``mlflow server``. Clients reach artifacts through it, so they hold no key of the store.

    DATABASE_HOST, DATABASE_PORT   PostgreSQL; default: 127.0.0.1:5432
    PGPASSWORD                     password of its role ``mlflow``
    MLFLOW_AUTH_ADMIN_PASSWORD     of the user ``admin``, who is made at the first start
    MLFLOW_FLASK_SERVER_SECRET_KEY signs the pages' sessions
    ARTIFACTS                      s3://BUCKET, made where it does not exist, or a folder; default: /artifacts
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, MLFLOW_S3_ENDPOINT_URL   for s3
    HOST, PORT                     where it listens; default: 127.0.0.1:5000
    ALLOWED_HOSTS                  names by which clients may call it; default: localhost,127.0.0.1
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

NEEDED = ("PGPASSWORD", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY")

# A user who is not named in a permission sees nothing: whoever may read a run reads its config and data paths.
AUTH = """\
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = {database_uri}
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
# Checking a password is slow on purpose, and every request brings one: a good one is remembered for a minute.
auth_cache_ttl_seconds = 60
"""


def database_uri(environment: Mapping[str, str], name: str) -> str:
    """Return the address of a database, without the password: the driver takes it from ``PGPASSWORD``."""
    host, port = environment.get("DATABASE_HOST", "127.0.0.1"), environment.get("DATABASE_PORT", "5432")
    return f"postgresql+psycopg://mlflow@{host}:{port}/{name}"


def command(environment: Mapping[str, str]) -> list[str]:
    """Return the server's command line; no secret is in it, for any user of a machine can list command lines."""
    host, port = environment.get("HOST", "127.0.0.1"), environment.get("PORT", "5000")
    allowed = environment.get("ALLOWED_HOSTS", "localhost,127.0.0.1")
    line = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--host", host, "--port", port]
    line += ["--backend-store-uri", database_uri(environment, "mlflow")]
    line += ["--serve-artifacts", "--artifacts-destination", environment.get("ARTIFACTS", "/artifacts")]
    # Both with and without the port: clients name it unless it is that of the scheme.
    names = [name.strip() for name in allowed.split(",") if name.strip()]
    line += ["--allowed-hosts", ",".join([*names, *(f"{name}:{port}" for name in names)])]
    return [*line, "--workers", environment.get("WORKERS", "2")]


def make_bucket(destination: str, environment: Mapping[str, str]) -> None:
    """Make the bucket where the store does not have it."""
    import boto3
    from botocore.exceptions import ClientError

    bucket = urlsplit(destination).netloc
    store = boto3.client("s3", endpoint_url=environment.get("MLFLOW_S3_ENDPOINT_URL"))
    try:
        store.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        store.create_bucket(Bucket=bucket)


def main() -> None:
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        sys.exit(f"error: {', '.join(missing)} must be set")
    config = Path(tempfile.mkdtemp(prefix="mlflow-")) / "basic_auth.ini"
    config.write_text(AUTH.format(database_uri=database_uri(os.environ, "mlflow_auth")))
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(config)
    # The job runner is 8 processes and 600 MB that a sweep has no use for.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    if os.environ.get("ARTIFACTS", "").startswith("s3://"):
        make_bucket(os.environ["ARTIFACTS"], os.environ)
    line = command(os.environ)
    os.execv(line[0], line)


if __name__ == "__main__":
    main()
