"""The search for parameters: trials are runs, a stopped search continues, and the best parameters are written as a reviewable change."""

import pytest

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.tracking import conventions, store
from {{ cookiecutter.__package }}.training import tune


@pytest.fixture
def linear(settings, tmp_path, monkeypatch, tracking_store):
    """Settings that fit in a moment, and a study of the test's own."""
    monkeypatch.setenv("TUNE_STORAGE", f"sqlite:///{(tmp_path / 'tune.db').as_posix()}")
    return settings.model_copy(update={"model": params.Model(estimator="linear")})


def test_every_trial_is_a_run_below_the_search_s_own(linear, dataset):
    found = tune.search(dataset, linear, trials=3, timeout=None)
    assert len(found.trials) == 3
    client = store.connect()
    (parent,) = client.search_runs([conventions.experiment()], f"tags.study = '{found.study_name}'")
    children = client.search_runs([conventions.experiment()], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert len(children) == 3
    assert all("alpha" in child.data.params for child in children)
    assert parent.data.params["best.alpha"] == str(found.best_params["alpha"])
    assert parent.data.metrics[f"cv_{problem.METRIC}"] in [
        child.data.metrics[f"cv_{problem.METRIC}"] for child in children
    ]


def test_a_search_that_was_stopped_goes_on_where_it_was(linear, dataset, capsys):
    tune.search(dataset, linear, trials=2, timeout=None)
    found = tune.search(dataset, linear, trials=4, timeout=None)
    assert len(found.trials) == 4
    assert "continuing after 2 trials" in capsys.readouterr().out
    assert len(tune.search(dataset, linear, trials=4, timeout=None).trials) == 4


def look_in(monkeypatch, **space):
    """Settings whose `[tune.space]` has these ranges."""
    monkeypatch.setattr(tune.Tune, "load", lambda: tune.Tune(space=space))


def test_other_data_or_another_space_is_another_search(linear, dataset, monkeypatch):
    one = tune.study(dataset, linear)
    other = tune.study(dataset.take(slice(500)), linear)
    assert tune.study(dataset, linear).study_name == one.study_name
    look_in(monkeypatch, alpha=[1.0, 2.0])
    assert len({one.study_name, other.study_name, tune.study(dataset, linear).study_name}) == 3


@pytest.mark.parametrize("what", ["features", "fixed parameters", "folds", "seed"])
def test_what_else_a_trial_depends_on_makes_another_search(linear, dataset, monkeypatch, what):
    one = tune.study(dataset, linear)
    if what == "features":
        whole = problem.features
        monkeypatch.setattr(problem, "features", lambda columns: whole(columns) * 2)
    elif what == "fixed parameters":
        linear = linear.model_copy(update={"model": params.Model(estimator="linear", linear={"fit_intercept": False})})
    elif what == "folds":
        monkeypatch.setattr(tune.evaluate.Evaluate, "load", lambda: tune.evaluate.Evaluate(folds=5))
    else:
        linear = linear.model_copy(update={"data": linear.data.model_copy(update={"seed": 7})})
    assert tune.study(dataset, linear).study_name != one.study_name


def test_a_range_for_a_parameter_that_is_none_ends_it_at_once(linear, dataset, monkeypatch, capsys):
    look_in(monkeypatch, alfa=[1.0, 2.0])
    with pytest.raises(UserError, match=r"\[tune.space\]: linear has no parameter 'alfa'; did you mean alpha\?"):
        tune.search(dataset, linear, trials=2, timeout=30)
    assert "trial" not in capsys.readouterr().out


def test_a_range_of_values_that_are_all_refused_ends_in_the_estimator_s_words(linear, dataset, monkeypatch, capsys):
    look_in(monkeypatch, alpha=[-2.0, -1.0])
    with pytest.raises(UserError, match=r"params.toml \[model\]: .*"):
        tune.search(dataset, linear, trials=500, timeout=60)
    assert 1 < capsys.readouterr().out.count("failed: ") < 10


def test_values_stay_in_their_ranges(linear, dataset, monkeypatch):
    look_in(monkeypatch, alpha=[0.5, 2.0, "log"], fit_intercept=[True, False])
    found = tune.search(dataset, linear, trials=3, timeout=None)
    assert all(0.5 <= trial.params["alpha"] <= 2.0 for trial in found.trials)
    assert all(trial.params["fit_intercept"] in (True, False) for trial in found.trials)


def test_without_a_space_the_remedy_is_told(linear):
    other = linear.model_copy(update={"model": params.Model(estimator="sklearn.svm.SVR")})
    with pytest.raises(UserError, match="has no ranges for"):
        tune.space(other)


TOML = """# kept
[model]
estimator = "linear"  # kept

[model.linear]
alpha = 1.0    # how stiff
tol = 0.1

[model.xgboost]
alpha = 7
"""


def test_the_winner_is_written_into_its_table_and_nothing_else_changes(linear, tmp_path):
    path = tmp_path / "params.toml"
    path.write_text(TOML)
    difference = tune.apply({"alpha": 0.123456789, "solver": "svd"}, linear, path)
    expected = TOML.replace("alpha = 1.0    #", "alpha = 0.12346    #").replace(
        "tol = 0.1\n", 'tol = 0.1\nsolver = "svd"\n'
    )
    assert path.read_text() == expected
    assert [line for line in difference.splitlines() if line[0] in "+-"][2:] == [
        "-alpha = 1.0    # how stiff",
        "+alpha = 0.12346    # how stiff",
        '+solver = "svd"',
    ]
