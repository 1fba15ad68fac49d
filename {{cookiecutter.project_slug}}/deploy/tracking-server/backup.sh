#!/bin/sh
# Write the database and the artifacts to backups/<time>, completely or not at all. The server is stopped meanwhile: clients keep their runs.
set -eu
cd "$(dirname "$0")/../.."
compose="docker compose -f deploy/tracking-server/compose.yaml"
made=backups/$(date -u +%Y-%m-%dT%H%M%SZ)
umask 077
mkdir -p "$made.partial"
# Whatever happens, the server is started again.
trap '$compose up -d --wait' EXIT
$compose stop proxy mlflow
$compose exec -T postgres pg_dump --username mlflow --format custom mlflow > "$made.partial/mlflow.dump"
$compose stop store
$compose run --rm -T --no-deps --entrypoint sh store -c 'tar -c -f - -C /data .' > "$made.partial/artifacts.tar"
mv "$made.partial" "$made"
echo "wrote $made; deploy/tracking-server/.env belongs to it: keep a copy of that too"
