"""Keep what was chosen: one table of path -> the answers that keep it."""

import os
import shutil

LEVEL = int("{{ cookiecutter.maturity_level }}")
ANSWERS = {
    "problem": "{{ cookiecutter.problem }}",
    "tracking": "{{ cookiecutter.tracking }}",
    "deployment": "{{ cookiecutter.deployment }}",
    "ci": "{{ cookiecutter.ci }}",
    "orchestrator": "{{ cookiecutter.orchestrator }}",
    "parts": "yes" if LEVEL >= 2 or "{{ cookiecutter.deployment }}" == "batch" else "no",
}
RIDES, CHURN, OWN = ({"problem": answer} for answer in ("ride-duration", "churn", "own"))
WEB, BATCH, STREAMING, SERVICE = ({"deployment": answer} for answer in ("web", "batch", "streaming", "web streaming"))
PARTS = {"parts": "yes"}
LOCAL, REMOTE, GITHUB, GITLAB = {"tracking": "local"}, {"tracking": "remote"}, {"ci": "github"}, {"ci": "gitlab"}
BY_CI, MAGE = {"orchestrator": "ci"}, {"orchestrator": "mage"}
DEVOPS, TRAINING, DELIVERY, OPERATION, BY_HAND, BY_REQUEST, BY_ITSELF = {"from": 1}, {"from": 2}, {"from": 3}, {"from": 4}, {"to": 1}, {"to": 2}, {"to": 3}
PACKAGE = "src/{{ cookiecutter.__package }}/"
OF_A_PROBLEM = f"{PACKAGE}problem tests/code/test_problem tests/data/test_sample tests/model/test_behaviour"
VARIANTS = ("ride_duration", "churn", "own", "local", "remote", "service", "web", "batch", "streaming", "level0", "level2", "level3", "level4")


def each(start, names, end, *conditions):
    """A row of the table for each of several names: all conditions must hold; "from" and "to" are levels."""
    needed = {answer: value for condition in conditions for answer, value in condition.items()}
    return {f"{start}{name}{end}": needed for name in names.split()}


KEEP = {
    **each("", OF_A_PROBLEM, ".ride_duration.py", RIDES),
    **each("", OF_A_PROBLEM, ".churn.py", CHURN),
    **each("", OF_A_PROBLEM, ".own.py", OWN),
    **each(PACKAGE, "serving/served_model training/recipe", ".level0.py", BY_HAND),
    **each(PACKAGE, "training/recipe", ".level2.py", TRAINING),
    **each(PACKAGE, "serving/served_model pipeline/gate", ".level2.py", TRAINING, BY_REQUEST),
    **each(PACKAGE, "serving/served_model", ".level3.py", DELIVERY, BY_ITSELF),
    **each(PACKAGE, "serving/served_model", ".level4.py", OPERATION),
    **each(PACKAGE, "pipeline/gate", ".level3.py", DELIVERY),
    **each(f"{PACKAGE}pipeline/", "rival verdict", ".py", DELIVERY),
    **each(f"{PACKAGE}pipeline/", "operate retrain rollout", ".py", OPERATION),
    **each(f"{PACKAGE}model/", "ab_split following live", ".py", DELIVERY),
    **each(f"{PACKAGE}registry/", "share", ".py", DELIVERY),
    **each(f"{PACKAGE}tools/", "predictions", ".py", DELIVERY),
    **each(PACKAGE, "monitoring", "", DELIVERY),
    **each(f"{PACKAGE}monitoring/", "counted monitor monitor_page windows", ".py", OPERATION),
    **each(f"{PACKAGE}monitoring/", "logged", ".batch.py", DELIVERY, BATCH),
    **each(f"{PACKAGE}monitoring/", "logged", ".service.py", DELIVERY, SERVICE),
    **each(f"{PACKAGE}tracking/", "store training_run", ".local.py", LOCAL),
    **each(f"{PACKAGE}tracking/", "store training_run", ".remote.py", REMOTE),
    **each(f"{PACKAGE}tracking/", "copy_runs outbox server_errors", ".py", REMOTE),
    **each(f"{PACKAGE}tools/", "migrate", ".py", REMOTE),
    **each(f"{PACKAGE}tools/", "open_ui", ".py", LOCAL),
    **each(PACKAGE, "tracking_server", "", REMOTE),
    **each(f"{PACKAGE}tracking_server/", "follow_calls", ".py", REMOTE, DELIVERY),
    **each(f"{PACKAGE}serving/", "app.py templates static", "", WEB),
    **each(f"{PACKAGE}serving/", "batch job job_run outputs scorer spark tables", ".py", BATCH),
    **each(f"{PACKAGE}serving/", "job_report", ".py", BATCH, TRAINING),
    **each(f"{PACKAGE}base/", "progress", ".py", BATCH),
    **each(f"{PACKAGE}serving/", "broker health worker", ".py", STREAMING),
    **each(f"{PACKAGE}base/", "reports", ".py", TRAINING),
    **each(PACKAGE, "base/spark data/storage", ".py", PARTS),
    **each(f"{PACKAGE}data/", "data_lock drift parts sources", ".py", TRAINING),
    **each(f"{PACKAGE}model/", "conformal explain fetch", ".py", TRAINING),
    **each(f"{PACKAGE}training/", "disk evaluate explanations plots spark tune", ".py", TRAINING),
    **each(f"{PACKAGE}tools/", "copy_model", ".py", DEVOPS),
    **each(f"{PACKAGE}tools/", "get_data registry reproduce", ".py", TRAINING),
    **each(PACKAGE, "pipeline registry", "", TRAINING),
    **each("", ".env.example deploy/tracking-server examples/webhook.py tests/code/test_outbox.py tests/code/test_server.py", "", REMOTE),
    **each("deploy/", "aws kubernetes", "", DELIVERY),
    **each("deploy/", "monitoring systemd", "", OPERATION),
    **each("deploy/kubernetes/base/workload", ".web", ".yaml", DELIVERY, WEB),
    **each("deploy/kubernetes/base/workload", ".batch", ".yaml", DELIVERY, BATCH),
    **each("deploy/kubernetes/base/workload", ".streaming", ".yaml", DELIVERY, STREAMING),
    **each("deploy/kubernetes/base/", "scaler", ".yaml", DELIVERY, STREAMING),
    **each("deploy/kubernetes/", "follow", "", DELIVERY, REMOTE, SERVICE),
    **each("deploy/kubernetes/", "operate", "", OPERATION, REMOTE),
    **each("deploy/aws/workload", ".web", ".yaml", DELIVERY, WEB),
    **each("deploy/aws/workload", ".batch", ".yaml", DELIVERY, BATCH),
    **each("deploy/aws/workload", ".streaming", ".yaml", DELIVERY, STREAMING),
    **each("", "gunicorn.conf.py examples/predict.py tests/code/test_web.py", "", WEB),
    **each("examples/", "marketing", ".py", CHURN, WEB),
    **each("examples/", "story", ".py", OPERATION),
    **each("examples/", "store", ".local.py", OPERATION, LOCAL),
    **each("examples/", "store", ".remote.py", OPERATION, REMOTE),
    **each("examples/", "traffic", ".web.py", OPERATION, WEB),
    **each("examples/", "traffic", ".batch.py", OPERATION, BATCH),
    **each("examples/", "traffic", ".streaming.py", OPERATION, STREAMING),
    **each("examples/", "broker produce watch", ".py", STREAMING),
    **each("", ".devcontainer .dockerignore .pre-commit-config.yaml Dockerfile SECURITY.md compose.yaml tests", "", DEVOPS),
    **each("tests/code/test_", "batch", ".py", BATCH),
    **each("tests/code/test_", "stream", ".py", STREAMING),
    **each("tests/code/test_", "conformal data_lock download drift engines evaluate explain fetch registry tune", ".py", TRAINING),
    **each("tests/code/test_", "gate", ".level2.py", TRAINING, BY_REQUEST),
    **each("tests/code/test_", "gate", ".level3.py", DELIVERY),
    **each("tests/code/test_", "ab_report ab_split following truth verdict", ".py", DELIVERY),
    **each("tests/", "answered code/test_monitor code/test_operate", ".py", OPERATION),
    **each("tests/code/test_", "prediction_log", ".py", DELIVERY, SERVICE),
    **each("tests/code/test_", "scored_log", ".py", DELIVERY, BATCH),
    **each("tests/code/test_", "follow_calls", ".py", DELIVERY, REMOTE),
    **each("tests/code/test_explain_", "web", ".py", WEB, TRAINING),
    **each("tests/code/test_", "explain_batch job_report", ".py", BATCH, TRAINING),
    **each("tests/", "data/test_validation", ".py", TRAINING),
    **each(".github/", "dependabot workflows/audit workflows/ci", ".yml", GITHUB, DEVOPS),
    **each(".github/workflows/", "train", ".yml", GITHUB, TRAINING),
    **each(".github/workflows/", "deploy", ".yml", GITHUB, DELIVERY),
    **each(".github/workflows/", "operate", ".yml", GITHUB, OPERATION, BY_CI),
    **each(".github/workflows/", "score", ".yml", GITHUB, BATCH, REMOTE, TRAINING, BY_CI),
    **each("", ".gitlab-ci.yml .gitlab/ci/audit.yml .gitlab/ci/check.yml renovate.json", "", GITLAB, DEVOPS),
    **each(".gitlab/ci/", "train", ".yml", GITLAB, TRAINING),
    **each(".gitlab/ci/", "deploy", ".yml", GITLAB, DELIVERY),
    **each(".gitlab/ci/", "operate", ".yml", GITLAB, OPERATION, BY_CI),
    **each(".gitlab/ci/", "score", ".yml", GITLAB, BATCH, REMOTE, TRAINING, BY_CI),
    **each("", "orchestration", "", TRAINING, MAGE),
    **each("orchestration/mage/pipelines/", "inference", "", TRAINING, MAGE, BATCH),
    **each("orchestration/mage/pipelines/", "deployment", "", DELIVERY, MAGE),
    **each("orchestration/mage/pipelines/", "monitoring retraining", "", OPERATION, MAGE),
    **each(f"{PACKAGE}tools/", "candidates", ".py", TRAINING, MAGE),
    **each("tests/code/test_", "candidates", ".py", TRAINING, MAGE),
}


def holds(answer, value):
    """Whether an answer is the one that a condition of the table names."""
    return {"from": lambda: value <= LEVEL, "to": lambda: value >= LEVEL}.get(answer, lambda: ANSWERS[answer] in value.split())()


for path, conditions in KEEP.items():
    kept = all(holds(answer, value) for answer, value in conditions.items())
    if os.path.exists(path) and not kept:
        shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
        while (path := os.path.dirname(path)) and not os.listdir(path):
            os.rmdir(path)
    elif os.path.exists(path) and path.count(".") == 2 and path.split(".")[1] in VARIANTS:
        # A file with an answer in its name is renamed to the name that the project uses.
        name, _, kind = path.split(".")
        os.rename(path, f"{name}.{kind}")

# Cookiecutter prints where it writes. An update, which bakes twice into temporary folders, does not.
if "{{ cookiecutter._output_dir is defined }}" == "True":
    first = "tracking-secrets tracking-server" if ANSWERS["tracking"] == "remote" else "pipeline" if LEVEL >= 2 else "train"
    # The folder from the command line, unless the project was made elsewhere.
    here = os.environ.get("PWD") == os.path.dirname(os.getcwd())
    slug, about = "{{ cookiecutter.project_slug }}", f"{', '.join(list(ANSWERS.values())[:3])}, level {LEVEL}"
    print(f"Made {slug} ({about}). Next:\n\n  cd {slug if here else os.getcwd()}\n  make setup\n  make {first}\n\nIts README.md has the next steps.")
