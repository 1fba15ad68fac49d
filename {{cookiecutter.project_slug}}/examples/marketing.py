"""List the customers to write to before they leave, from a file or an example; no message is sent."""

import argparse
import csv
import json
import pathlib
import sys
import urllib.error
import urllib.request

from {{ cookiecutter.__package }} import problem

FIELDS = problem.Record.model_fields
NUMBERS = {name for name, field in FIELDS.items() if field.annotation in (int, float)}


def customers(path):
    """The customers of a CSV file in the record's spelling, each with its id."""
    if not path.exists():
        sys.exit(f"error: {path} does not exist: give a CSV file with the columns {', '.join(FIELDS)}")
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), 1):
            record = {name: float(row[name]) if name in NUMBERS else row[name] for name in FIELDS if row.get(name)}
            yield row.get(problem.ID) or f"line {number}", record


def ask(url, records):
    """The service's answers for some customers."""
    request = urllib.request.Request(url, json.dumps(records).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        sys.exit(f"error: {json.load(error)['detail']}")
    except OSError as error:
        sys.exit(f"error: no answer from {url} ({error}): start it with `make serve`, or name its PORT=")


def main():
    """Send the customers of FILE in parts, or one example, and print whom to write to."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("file", nargs="?", type=pathlib.Path, help="CSV file of customers; without it, one example")
    parser.add_argument("--port", type=int, default=9696)
    given = parser.parse_args()
    found = list(customers(given.file)) if given.file else [("the example customer", problem.EXAMPLE)]
    url, written = f"http://127.0.0.1:{given.port}/predict", 0
    for start in range(0, len(found), 500):
        part = found[start : start + 500]
        for (name, _), answer in zip(part, ask(url, [record for _, record in part]), strict=True):
            if answer["churn"]:
                written += 1
                print(f"write to {name}: leaves with probability {answer['churn_probability']:.2f}")
    print(f"{written:,} of {len(found):,} customers should get a message")


if __name__ == "__main__":
    main()
