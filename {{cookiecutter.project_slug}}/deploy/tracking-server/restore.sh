#!/bin/sh
# Restore a backup: sh deploy/tracking-server/restore.sh backups/2026-01-31T120000Z. It replaces the current data.
set -eu
cd "$(dirname "$0")/../.."
from=${1:?which backup? sh deploy/tracking-server/restore.sh backups/<time>}
refuse() { echo "error: $from is no whole backup: $1; nothing was changed" >&2; exit 1; }
test -f "$from/mlflow.dump" && test -f "$from/artifacts.tar" || refuse "a file is missing"
tar -t -f "$from/artifacts.tar" > /dev/null 2>&1 || refuse "artifacts.tar cannot be read to its end"
compose="docker compose -f deploy/tracking-server/compose.yaml"
$compose up -d --wait postgres
$compose exec -T postgres pg_restore --list < "$from/mlflow.dump" > /dev/null || refuse "mlflow.dump cannot be read"
$compose stop proxy mlflow store
# The old artifacts are deleted once all new ones are in place; the database is replaced last, in one step.
$compose run --rm -T --no-deps --entrypoint sh store -c 'rm -rf /data/.new && mkdir /data/.new && tar -x -f - -C /data/.new && find /data -mindepth 1 -maxdepth 1 ! -name .new -exec rm -rf {} + && find /data/.new -mindepth 1 -maxdepth 1 -exec mv {} /data/ ";" && rmdir /data/.new' < "$from/artifacts.tar"
$compose exec -T postgres pg_restore --username mlflow --dbname mlflow --clean --if-exists --single-transaction < "$from/mlflow.dump"
$compose up -d --wait
echo "restored $from"
