"""A project's own tests notice when it breaks: each mutation of a generated module turns them red."""

import shutil

import pytest
from conftest import ROOT, Project

MUTATIONS = {
    "batch: rejected rows are lost": (
        "batch",
        "serving/scorer.py",
        "numbers.take(gone)",
        "numbers.take(gone.slice(1))",
    ),
    "batch: number off by one": (
        "batch",
        "serving/tables.py",
        "np.arange(done + 1, done + batch.num_rows + 1)",
        "np.arange(done, done + batch.num_rows)",
    ),
    "batch: bad rows scored": (
        "batch",
        "serving/scorer.py",
        "            suspect |= broken",
        "            suspect |= False & broken",
    ),
    "batch: written in place": (
        "batch",
        "serving/tables.py",
        'f"{self.folder}/{self._prefix}{secrets.token_hex(4)}.partial"',
        "target.path",
    ),
    "batch: partial left behind": (
        "batch",
        "serving/tables.py",
        "self.target.system.delete_file(self._partial)",
        "pass",
    ),
    "batch: killed job's partial left": ("batch", "serving/tables.py", 'endswith(".partial")', 'endswith(".never")'),
    "batch: stale output kept": ("batch", "serving/job.py", '"input_state": unit.state(),', '"input_state": "",'),
    "batch: any share refused": ("batch", "serving/job.py", "if rejected > count *", "if rejected > count + count *"),
    "batch: date beyond the last": ("batch", "data/storage.py", "<= until)", "< until)"),
    "batch: foreign column overwritten": (
        "batch",
        "serving/scorer.py",
        "            if names.count(name) > (name in renamed.values()):\n                raise",
        "            if False:\n                raise",
    ),
    "streaming: commit before the answer": ("streaming", "serving/worker.py", "offset + 1)", "offset + 2)"),
    "streaming: nothing committed": (
        "streaming",
        "serving/worker.py",
        "self._consumer.commit(offsets=offsets, asynchronous=False)",
        "pass",
    ),
    "streaming: dead letters dropped": (
        "streaming",
        "serving/worker.py",
        "            outputs.append(_dead(",
        "            print(_dead(",
    ),
    "streaming: wrong key": ("streaming", "serving/worker.py", "    if given is not None:", "    if False:"),
    "streaming: repeats differ": (
        "streaming",
        "serving/worker.py",
        'key + b"\\0" + value, digest_size',
        "key + str(time.time_ns()).encode(), digest_size",
    ),
    "streaming: ids shared": (
        "streaming",
        "serving/worker.py",
        'key + b"\\0" + value, digest_size',
        "b'', digest_size",
    ),
    "streaming: ready too early": ("streaming", "serving/health.py", '"" if self._joined else', '"" if True else'),
    "streaming: broker's absence unnoticed": (
        "streaming",
        "serving/health.py",
        "        self.reachable = False",
        "        self.reachable = True",
    ),
    "any table accepted": ("base/params.py", "if name not in TABLES:", "if False:"),
    "parameters of another estimator": ("base/params.py", "self.tables.get(self.estimator, {})", "{}"),
    "as many explanations as anybody asks for": ("serving/app.py", "predictor.additions[name].most for", "10**9 for"),
    "files of elsewhere": ("model/bundle.py", "if any(not file or Path(file).name != file", "if False and any(file"),
    "undeclared types kept": ("training/export.py", "    if unknown := sorted(", "    if False and sorted("),
    "wrong unit": ("problem.py", 'np.timedelta64(1, "m")', 'np.timedelta64(1, "s")'),
    "dropped feature": ("problem.py", "matrix[:, 3] = hours % 24", "matrix[:, 3] = 0"),
    "swapped columns": (
        "problem.py",
        'matrix[:, 0] = columns["PULocationID"]',
        'matrix[:, 0] = columns["DOLocationID"]',
    ),
    "wrong default time": ("problem.py", "NOON_ON_A_WEDNESDAY = 60.0", "NOON_ON_A_WEDNESDAY = 84.0"),
    "wrong metric": ("metrics.py", "Metric(sklearn.root_mean_squared_error", "Metric(sklearn.mean_squared_error"),
    "loss the wrong way round": ("metrics.py", "return 1 - value if METRICS", "return value if METRICS"),
    "classes that nobody said": ("metrics.py", "labels = range(scores.shape[1])", "labels = range(1)"),
    "interval of nothing": ("training/evaluate.py", "[0.025, 0.975]", "[0.5, 0.5]"),
    "baseline of the wrong rows": ("metrics.py", "baseline(train, len(actual))", "baseline(actual, len(actual))"),
    "folds that know the future": (
        "training/evaluate.py",
        "        splitter = TimeSeriesSplit(number)",
        "        splitter = KFold(number)",
    ),
    "unknown parameter accepted": (
        "estimators.py",
        "for unknown in sorted(set(parameters) - of):",
        "for unknown in ():",
    ),
    "estimator for another task": ("estimators.py", "if not fits(estimator):", "if False:"),
    "any type trusted": ("model/predictor.py", "found = known & set(", "found = set("),
    "runs delivered twice": ("tracking/copy_runs.py", "into or self._known(origin, experiment_id) or", "into or"),
    "models delivered twice": ("tracking/copy_runs.py", "        if found:\n", "        if False:\n"),
    "outbox emptied before delivery": (
        "tracking/outbox.py",
        "    transfer.run(run, experiment, known)",
        "    pass",
    ),
    "move without a lock": (
        "registry/champion_log.py",
        '        if error.error_code != "RESOURCE_ALREADY_EXISTS":\n            raise',
        "        if True:\n            yield\n            return",
    ),
    "refused move remembered": (
        "registry/champion_log.py",
        "            client.delete_registered_model_tag(name, key)",
        "            pass",
    ),
    "alias taken back": ("tools/migrate.py", "            if alias not in taken:", "            if True:"),
    "checksums not compared": ("tools/migrate.py", "or different:", "or False:"),
    "weaker rule": ("problem.py", "lambda minutes: minutes > 60", "lambda minutes: minutes >= 60"),
    "off-by-one split": ("data/split.py", "slice(limit, None)", "slice(limit + 1, None)"),
    "leaking split": ("data/split.py", "dataset.take(slice(limit)), ", "dataset, "),
    "split without a seed": ("data/clean.py", "np.uint64(seed % 2**64)", "np.uint64(0)"),
    "unsorted rows": ("data/clean.py", 'order[np.argsort(raw[problem.TIME][keep], kind="stable")]', "order"),
    "swallowed bounds": ("data/schema.py", "values < field.least", "values < -1e9"),
    "records out of order": ("data/schema.py", "for record in records]", "for record in records[::-1]]"),
    "unchecked checksum": ("model/bundle.py", "!= wanted:", "== None:"),
    "unchecked format": ("model/bundle.py", "> FORMAT", "> 99"),
    "unchecked parity": ("training/export.py", "if not difference <= tolerance", "if False"),
    "foreign model": ("model/predictor.py", "!= expected:", "== None:"),
    "metric of the wrong rows": (
        "training/recipe.py",
        "found = metrics.compared(newest.target, scores",
        "found = metrics.compared(older.target, train",
    ),
    "missing tag": ("tracking/conventions.py", '"team": names["team"],\n        "git', '"git'),
    "unknown setting": ("base/params.py", 'extra="forbid"', 'extra="ignore"'),
    "swallowed error": ("base/errors.py", "code = _say(str(error))", "code = 0"),
    "swallowed refusal": ("serving/app.py", '422, "invalid record"', '200, "invalid record"'),
    "lost limit": ("serving/app.py", "len(records) > most", "False"),
    "no cache": ("model/fetch.py", 'if not (last / "model.json").is_file():', "if True:"),
    "a name for a content": ("data/sources.py", 'entry["origin"] != url if entry else path.exists()', "False"),
    "gate open": ("pipeline/gate.py", "if not loss(metric, score) <= loss(metric, rival)", "if False and (rival)"),
    "promotion forgets": (
        "registry/versions.py",
        'if each["alias"] and each["now"] == number and',
        'if each["alias"] and each["action"] == "register" and',
    ),
    "validation open": ("pipeline/validate.py", "    if failed:", "    if False:"),
    "parts the wrong way round": ("model/explain.py", "(passes - share)", "(share - passes)"),
    "too coarse an average": ("model/explain.py", "leggauss((share.shape[1] + 1) // 2)", "leggauss(1)"),
    "features known a step early": (
        "model/explain.py",
        "place[:, None, :] < steps[:, None]",
        "place[:, None, :] <= steps[:, None]",
    ),
    "shares mixed up": ("training/explanations.py", "share * (1 - part)", "share * part"),
    "drift unseen": ("data/drift.py", "np.log(now / was)", "np.log(was / was)"),
    "blocks with bins of their own": ("training/disk.py", "ref=first", "ref=None"),
    "any content taken": ("data/data_lock.py", "if sha256(partial) == digest:", "if True:"),
    "other data untold": ("data/data_lock.py", "if entry is None or sha256", "if True or sha256"),
    "part of other rows": (
        "training/evaluate.py",
        "newest.target[rows], scores[rows]",
        "newest.target[rows], scores[rows][::-1]",
    ),
    "explained with every answer": ("serving/app.py", '[name] * (value == "true")', "[name]"),
    "batch: parts of other features": (
        "batch",
        "model/explain.py",
        "contributions.T, strict=True",
        "contributions.T[::-1], strict=True",
    ),
    "unregistered card": ("registry/model_card.py", '{card["run_id"]}', "{card}"[:0]),
}


FOR_A_SERVER = ("tracking/copy_runs.py", "tracking/outbox.py", "tools/migrate.py")
"""Mutations of modules that only a project with a tracking server has."""


def test_each_mutation_has_something_to_break():
    stale = []
    for name, (*_, path, old, _) in MUTATIONS.items():
        place = ROOT / "{{cookiecutter.project_slug}}" / "src" / "{{cookiecutter.__package}}" / path
        variants = [place, *place.parent.glob(f"{place.stem}.*.py")]
        if not any(old in each.read_text(encoding="utf-8") for each in variants if each.exists()):
            stale.append(f"{name}: no {old!r} in {path}")
    assert stale == []


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_turns_the_project_s_tests_red(bake, mutation):
    *deployment, name, old, new = MUTATIONS[mutation]
    answers = {"deployment": deployment[0]} if deployment else {}
    if name in FOR_A_SERVER:
        answers["tracking"] = "remote"
    project: Project = bake(**answers).borrow_environment()
    path = project.path / "src" / "ride_duration" / name
    text = path.read_text(encoding="utf-8")
    assert text.count(old) >= 1, f"{name} no longer has {old!r}: bring this table up to date"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    # The notebook's test is the slowest and finds the least.
    first = [f"tests/code/test_{'batch' if deployment == ['batch'] else 'stream'}.py"] if deployment else []
    if "explain" in name:
        first = ["tests/code/test_explain.py", *(["tests/code/test_explain_batch.py"] if deployment else [])]
    done = project.run(
        ".venv/bin/python", "-m", "pytest", "-q", "-x", "--deselect", "tests/code/test_notebook.py", *first
    )
    assert done.returncode == 1, f"nothing noticed: {mutation}\n{done.stdout[-2000:]}"
    assert "failed" in done.stdout or "error" in done.stdout
    shutil.rmtree(project.path)
