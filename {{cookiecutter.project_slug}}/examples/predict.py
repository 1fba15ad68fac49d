"""Ask the service for one prediction, as any client would."""

import argparse
import json
import sys
import urllib.error
import urllib.request

from {{ cookiecutter.__package }} import problem

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--port", type=int, default=9696)
url = f"http://127.0.0.1:{parser.parse_args().port}/predict"
body = json.dumps(problem.EXAMPLE)
request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
print(f"POST {url}\n{body}")
try:
    with urllib.request.urlopen(request, timeout=10) as response:
        print(response.read().decode())
except urllib.error.HTTPError as error:
    sys.exit(f"error: {error.code} {error.read().decode()}")
except OSError as error:
    sys.exit(f"error: no answer from {url} ({error}): start it with `make serve`, or name its PORT=")
