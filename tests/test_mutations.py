"""A project's own tests notice when it breaks: each mutation of a generated module turns them red."""

import shutil

import pytest
from conftest import Project

MUTATIONS = {
    "batch: rejected rows are lost": ("batch", "scoring.py", "numbers.take(gone)", "numbers.take(gone.slice(1))"),
    "batch: number off by one": (
        "batch",
        "rows.py",
        "np.arange(done + 1, done + batch.num_rows + 1)",
        "np.arange(done, done + batch.num_rows)",
    ),
    "batch: bad rows scored": (
        "batch",
        "scoring.py",
        "            suspect |= broken",
        "            suspect |= False & broken",
    ),
    "batch: written in place": (
        "batch",
        "rows.py",
        'f"{self.folder}/{self._prefix}{secrets.token_hex(4)}.partial"',
        "target.path",
    ),
    "batch: partial left behind": ("batch", "rows.py", "self.target.system.delete_file(self._partial)", "pass"),
    "batch: killed job's partial left": ("batch", "rows.py", 'endswith(".partial")', 'endswith(".never")'),
    "batch: stale output kept": ("batch", "batch.py", '"input_state": unit.state(),', '"input_state": "",'),
    "batch: any share refused": ("batch", "batch.py", "if rejected > count *", "if rejected > count + count *"),
    "batch: date beyond the last": ("batch", "files.py", "<= until)", "< until)"),
    "batch: foreign column overwritten": (
        "batch",
        "scoring.py",
        "            if name in given.names:\n                raise",
        "            if False:\n                raise",
    ),
    "streaming: commit before the answer": ("streaming", "stream.py", "offset + 1)", "offset + 2)"),
    "streaming: nothing committed": (
        "streaming",
        "stream.py",
        "self._consumer.commit(offsets=offsets, asynchronous=False)",
        "pass",
    ),
    "streaming: dead letters dropped": (
        "streaming",
        "stream.py",
        "            outputs.append(_dead(",
        "            print(_dead(",
    ),
    "streaming: wrong key": ("streaming", "stream.py", "    if given is not None:", "    if False:"),
    "streaming: repeats differ": (
        "streaming",
        "stream.py",
        "(version, key, value)",
        "(version, key, str(time.time_ns()).encode())",
    ),
    "streaming: ids shared": ("streaming", "stream.py", "(version, key, value)", "(version,)"),
    "streaming: ready too early": ("streaming", "health.py", '"" if self._joined else', '"" if True else'),
    "streaming: broker's absence unnoticed": (
        "streaming",
        "health.py",
        "        self.reachable = False",
        "        self.reachable = True",
    ),
    "wrong unit": ("problem.py", 'np.timedelta64(1, "m")', 'np.timedelta64(1, "s")'),
    "dropped feature": ("problem.py", "matrix[:, 3] = hours % 24", "matrix[:, 3] = 0"),
    "swapped columns": (
        "problem.py",
        'matrix[:, 0] = columns["PULocationID"]',
        'matrix[:, 0] = columns["DOLocationID"]',
    ),
    "wrong default time": ("problem.py", '"2024-01-10T12:00"', '"2024-01-11T12:00"'),
    "wrong metric": ("metrics.py", "np.sqrt(np.mean((scores - actual) ** 2))", "np.mean((scores - actual) ** 2)"),
    "loss the wrong way round": ("metrics.py", "return 1 - value if name in HIGHER", "return value if name in HIGHER"),
    "ranks of ties": ("metrics.py", "- (counts - 1) / 2", ""),
    "interval of nothing": ("metrics.py", "[0.025, 0.975]", "[0.5, 0.5]"),
    "baseline of the wrong rows": ("evaluate.py", "metrics.constant(older.target", "metrics.constant(newest.target"),
    "folds that know the future": (
        "evaluate.py",
        "        splitter: Any = TimeSeriesSplit(number)",
        "        splitter: Any = KFold(number)",
    ),
    "unknown parameter accepted": (
        "estimators.py",
        "for unknown in sorted(set(settings) - set(known)):",
        "for unknown in ():",
    ),
    "estimator for another task": ("estimators.py", "if not fits(kinds[short]()):", "if False:"),
    "any type trusted": ("predictor.py", "if name.startswith(TRUSTED)]", "]"),
    "runs delivered twice": ("transfer.py", "into or self._known(origin, experiment_id) or", "into or"),
    "models delivered twice": ("transfer.py", "        if found:\n", "        if False:\n"),
    "outbox emptied before delivery": (
        "outbox.py",
        '    transfer.run(run, tracking.experiment(), run.data.tags.get(SERVER_RUN, ""))',
        "    pass",
    ),
    "move without a lock": (
        "moves.py",
        '        if error.error_code != "RESOURCE_ALREADY_EXISTS":\n            raise',
        "        if True:\n            yield\n            return",
    ),
    "refused move remembered": (
        "moves.py",
        "            client.delete_registered_model_tag(name, key)",
        "            pass",
    ),
    "alias taken back": ("migrate.py", "            if alias not in taken:", "            if True:"),
    "checksums not compared": ("migrate.py", "or different:", "or False:"),
    "weaker rule": ("problem.py", "lambda minutes: minutes > 60", "lambda minutes: minutes >= 60"),
    "off-by-one split": (
        "data.py",
        "return dataset.take(rows[~chosen]), dataset.take(rows[chosen])",
        "return dataset.take(rows[~chosen]), dataset.take(rows[chosen][1:])",
    ),
    "leaking split": ("data.py", "return dataset.take(rows[~chosen]), ", "return dataset.take(rows), "),
    "unsorted rows": ("data.py", 'order[np.argsort(raw[problem.TIME][keep], kind="stable")]', "order"),
    "swallowed bounds": ("schema.py", "values < field.least", "values < -1e9"),
    "records out of order": ("schema.py", "for record in records]", "for record in records[::-1]]"),
    "unchecked checksum": ("package.py", "!= wanted:", "== None:"),
    "unchecked format": ("package.py", "version > FORMAT", "version > 99"),
    "unchecked parity": ("export.py", "if not difference <= tolerance", "if False"),
    "foreign model": ("predictor.py", "!= expected:", "== None:"),
    "metric of the wrong rows": (
        "evaluate.py",
        "    scores = measured(predictor, newest.columns)\n    found = metrics.metrics(newest.target, scores)",
        "    scores = measured(predictor, newest.columns)\n    found = metrics.metrics(older.target, measured(predictor, older.columns))",
    ),
    "missing tag": ("tracking.py", '"team": names["team"],\n        "git', '"git'),
    "unknown setting": ("params.py", 'extra="forbid"', 'extra="ignore"'),
    "swallowed error": ("cli.py", "code = _say(str(error))", "code = 0"),
    "swallowed refusal": ("web.py", '422, "invalid record"', '200, "invalid record"'),
    "lost limit": ("web.py", "len(records) > most", "False"),
    "no cache": ("source.py", "if not kept.exists():", "if True:"),
    "no resume": ("download.py", '"ab" if start', '"wb" if start'),
    "gate open": ("gate.py", "if not loss(metric, score) <= loss(metric, rival)", "if False and (rival)"),
    "promotion forgets": ("registry.py", '"replaced", was)', '"replaced", "")'),
    "validation open": ("validate.py", "    if failed:", "    if False:"),
    "parts the wrong way round": ("explain.py", "(passes - share)", "(share - passes)"),
    "too coarse an average": ("explain.py", "leggauss((share.shape[1] + 1) // 2)", "leggauss(1)"),
    "features known a step early": (
        "explain.py",
        "place[:, None, :] < steps[:, None]",
        "place[:, None, :] <= steps[:, None]",
    ),
    "shares mixed up": ("leaves.py", "share * (1 - part)", "share * part"),
    "drift unseen": ("drift.py", "np.log(now / was)", "np.log(was / was)"),
    "any content taken": ("datalock.py", "if sha256(partial) == digest:", "if True:"),
    "other data untold": ("datalock.py", "if entry is None or sha256", "if True or sha256"),
    "part of other rows": (
        "evaluate.py",
        "newest.target[rows], scores[rows]",
        "newest.target[rows], scores[rows][::-1]",
    ),
    "explained with every answer": ("web.py", '    if explain == "true":\n        try', "    if True:\n        try"),
    "batch: parts of other features": (
        "batch",
        "scoring.py",
        "contributions.T, strict=True",
        "contributions.T[::-1], strict=True",
    ),
    "unregistered card": ("card.py", '{card["run_id"]}', "{card}"[:0]),
}


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_turns_the_project_s_tests_red(bake, mutation):
    *door, name, old, new = MUTATIONS[mutation]
    project: Project = bake(**({"deployment": door[0]} if door else {})).borrow_environment()
    path = project.path / "src" / "ride_duration" / name
    text = path.read_text(encoding="utf-8")
    assert text.count(old) >= 1, f"{name} no longer has {old!r}: bring this table up to date"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    # The notebook's test is the slowest and finds the least.
    first = [f"tests/code/test_{'batch' if door == ['batch'] else 'stream'}.py"] if door else []
    done = project.run(
        ".venv/bin/python", "-m", "pytest", "-q", "-x", "--deselect", "tests/code/test_notebook.py", *first
    )
    assert done.returncode == 1, f"nothing noticed: {mutation}\n{done.stdout[-2000:]}"
    assert "failed" in done.stdout or "error" in done.stdout
    shutil.rmtree(project.path)
