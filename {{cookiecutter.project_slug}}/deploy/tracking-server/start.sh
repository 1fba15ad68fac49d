#!/bin/sh
# Start MLflow in its container. Secrets come as environment variables and go to a file in memory, never to a command line.
set -eu
umask 077
cat > /tmp/auth.ini <<EOF
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = $TRACKING_DB
admin_username = admin
authorization_function = authorize:authorize
grant_default_workspace_access = false
auth_cache_ttl_seconds = 60
EOF
export MLFLOW_AUTH_CONFIG_PATH=/tmp/auth.ini
export MLFLOW_BASIC_AUTH_FAIL_CLOSED=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true
# MLflow has one list of webhooks for all workspaces: a team's webhook would be called for another team's models.
export MLFLOW_WEBHOOK_CACHE_TTL=0
export MLFLOW_BACKEND_STORE_URI="$TRACKING_DB" MLFLOW_ARTIFACTS_DESTINATION="$TRACKING_ARTIFACTS"
exec python -m mlflow server --app-name basic-auth --enable-workspaces --host 0.0.0.0 --port 5000 \
    --workers "${WORKERS:-2}" --allowed-hosts "$ALLOWED_HOSTS"
