"""Refuse a bad answer, in one line that names it and a good one, before a file is written."""

import json
import keyword
import re
import sys
import unicodedata

# The answers are data, never code: a JSON document inside one string literal.
ANSWERS = json.loads({{ cookiecutter | jsonify | tojson }})

# Distributions that the project imports: a package of the same name would shadow them.
DEPENDENCIES = {
    "alembic", "annotated_types", "boto3", "click", "confluent_kafka", "docker", "dotenv", "fastapi", "flask", "flask_wtf", "git", "greenlet",
    "gunicorn", "httpx", "jinja2", "joblib", "jupyterlab", "markdown_it", "matplotlib", "mlflow", "mypy", "nbformat", "networkx", "numpy", "onnx",
    "onnxmltools", "onnxruntime", "opentelemetry", "optuna", "packaging", "pandas", "platformdirs", "pluggy", "polars", "prometheus_client", "psutil",
    "psycopg", "pyarrow", "pydantic", "pygments", "pyspark", "pytest", "requests", "rich", "ruff", "scipy", "sentry_sdk", "six", "skl2onnx",
    "sklearn", "skops", "sqlalchemy", "starlette", "tabulate", "tests", "threadpoolctl", "tomlkit", "tqdm", "typer", "urllib3", "uvicorn", "waitress",
    "werkzeug", "xgboost", "yaml",
}  # fmt: skip
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
LONGEST = {"project_name": 60, "project_slug": 40, "description": 200, "author": 80}


def complaints():
    """Invalid answers, each as (question, the error, a valid answer)."""
    for question, longest in LONGEST.items():
        answer = ANSWERS[question]
        example = "ride-duration" if question == "project_slug" else "Ride Duration"
        if not answer.strip():
            yield question, "must not be empty", example
        elif len(answer) > longest:
            yield question, f"has {len(answer)} characters, at most {longest} fit", example
        elif any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in answer):
            yield question, "must be one line without control characters", example
        elif re.search(r"\{[#%{]", answer):
            yield question, "must not contain a brace followed by a brace, % or #", example
    if re.search(r"[\\`$<>|]", ANSWERS["project_name"]):
        yield "project_name", "must not contain any of \\ ` $ < > |", "Ride Duration"
    slug = ANSWERS["project_slug"]
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", slug):
        yield "project_slug", "must be lower-case letters and digits joined by single hyphens, a letter first", "ride-duration"
    package = slug.replace("-", "_")
    if keyword.iskeyword(package) or keyword.issoftkeyword(package):
        yield "project_slug", "is a Python keyword", f"{slug}-model"
    elif package in sys.stdlib_module_names or package in DEPENDENCIES:
        yield "project_slug", "is the name of a Python module that the project needs", f"{slug}-model"
    elif package in DEVICES:
        yield "project_slug", "is a device on Windows", f"{slug}-model"
    if ANSWERS["orchestrator"] == "mage" and ANSWERS["maturity_level"] in "01":
        yield "orchestrator", f"needs pipelines, which begin at maturity_level 2, and this is {ANSWERS['maturity_level']}", "ci"


for question, wrong, good in complaints():
    given = ascii(ANSWERS[question])
    sys.exit(f"{question} {given if len(given) < 80 else given[:76] + '...'} {wrong}; try: {good}")
