#!/bin/sh
# Put a backup back: sh deploy/tracking-server/restore.sh backups/2026-01-31T120000Z. What is there now is replaced.
set -eu
cd "$(dirname "$0")/../.."
from=${1:?which backup? sh deploy/tracking-server/restore.sh backups/<time>}
test -f "$from/mlflow.dump" && test -f "$from/artifacts.tar" || { echo "error: $from is no whole backup" >&2; exit 1; }
compose="docker compose -f deploy/tracking-server/compose.yaml"
$compose stop mlflow proxy
$compose up -d --wait postgres
$compose exec -T postgres pg_restore --username mlflow --dbname mlflow --clean --if-exists --single-transaction < "$from/mlflow.dump"
$compose stop store
$compose run --rm -T --no-deps --entrypoint sh store -c 'find /data -mindepth 1 -delete && tar -x -f - -C /data' < "$from/artifacts.tar"
$compose up -d --wait
echo "restored $from"
