#!/usr/bin/env bash
# Two roles that cannot read each other's data: `study` owns the sweeps' studies, `mlflow` its record and its users.
# PostgreSQL's image runs this once, on an empty data folder; PGHOST, PGPORT and POSTGRES_USER as usual.
set -euo pipefail

# psql reads the files itself: on its command line anyone on the machine could read the passwords.
export SECRETS="${SECRETS:-/run/secrets}"
psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\set study_password `cat "$SECRETS/study_password"`
\set mlflow_password `cat "$SECRETS/mlflow_password"`
CREATE ROLE study LOGIN PASSWORD :'study_password';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE study OWNER study;
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
REVOKE CONNECT ON DATABASE study, mlflow, mlflow_auth FROM PUBLIC;
SQL
