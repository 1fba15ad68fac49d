#!/bin/sh
# Write the database and the artifacts of the running containers to backups/<time>, whole or not at all.
set -eu
cd "$(dirname "$0")/../.."
compose="docker compose -f deploy/tracking-server/compose.yaml"
made=backups/$(date -u +%Y-%m-%dT%H%M%SZ)
umask 077
mkdir -p "$made.partial"
# The database first: an artifact that it does not know yet does no harm, one that it misses would.
$compose exec -T postgres pg_dump --username mlflow --format custom mlflow > "$made.partial/mlflow.dump"
$compose exec -T store tar -c -f - -C /data . > "$made.partial/artifacts.tar"
mv "$made.partial" "$made"
echo "wrote $made; deploy/tracking-server/.env belongs to it: keep a copy of that too"
