"""Another problem is one file: `make check-problem` names what is wrong with it, `make problem` drafts one from data."""

import importlib.util
import json
import pathlib
import re
import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data import schema
from {{ cookiecutter.__package }}.tools import check_problem
from {{ cookiecutter.__package }}.tools.drafting import columns as drafted_columns
from {{ cookiecutter.__package }}.tools.drafting import command, doubts, text
from {{ cookiecutter.__package }}.tools.drafting import tests as drafted_tests


def failure():
    """What the check says of the step that fails."""
    verdicts = list(check_problem.check())
    assert verdicts[-1][1] == "FAIL"
    return verdicts[-1][2]


def line(name):
    """The line of problem.py that defines a name."""
    lines = pathlib.Path(problem.__file__).read_text().splitlines()
    defines = re.compile(rf"(def |class |(\w+, )*){name}\b")
    return next(number for number, text in enumerate(lines, 1) if defines.match(text))


def test_the_project_s_own_problem_is_whole():
    assert [verdict for _, verdict, _ in check_problem.check()] == ["ok"] * len(check_problem.STEPS)


def test_a_metric_of_another_task_is_named_with_its_line(monkeypatch):
    monkeypatch.setattr(problem, "METRIC", "bleu")
    assert failure().startswith(f"problem.py:{line('METRIC')}: METRIC is 'bleu'")


def test_a_name_that_is_missing_is_named(monkeypatch):
    monkeypatch.delattr(problem, "SEGMENTS")
    assert "there is no SEGMENTS" in failure()


def test_an_example_that_is_no_record_is_named(monkeypatch):
    monkeypatch.setattr(problem, "EXAMPLE", {})
    assert failure().startswith(f"problem.py:{line('EXAMPLE')}: EXAMPLE is no Record")


def test_a_sample_that_changes_by_itself_is_named(monkeypatch):
    whole = problem.sample
    monkeypatch.setattr(problem, "sample", lambda rows, seed, **more: whole(rows, np.random.randint(1e6), **more))
    assert failure().startswith(f"problem.py:{line('sample')}: the same seed gives other rows")


def test_features_that_depend_on_the_records_beside_are_named(monkeypatch):
    whole = problem.features

    def centred(columns):
        matrix = whole(columns)
        return (matrix - matrix.mean(axis=0)).astype(np.float32) if len(matrix) else matrix

    monkeypatch.setattr(problem, "features", centred)
    assert "depend on the records beside it" in failure()


def test_features_of_another_number_are_named(monkeypatch):
    whole = problem.features
    monkeypatch.setattr(problem, "features", lambda columns: whole(columns)[:, :-1])
    assert "does FEATURES name each column?" in failure()


def test_a_feature_that_is_the_target_is_named(monkeypatch):
    if problem.TASK == "multiclass":
        pytest.skip("one feature does not order several classes")
    monkeypatch.setattr(check_problem.clean, "leaks", lambda dataset: [problem.FEATURES[0]])
    assert "known too late" in failure()


def test_an_answer_that_lacks_a_field_is_named(monkeypatch):
    whole = problem.answer
    monkeypatch.setattr(problem, "answer", lambda scores, **more: {**whole(scores, **more), "note": scores})
    assert failure().startswith(f"problem.py:{line('answer')}: answer gives")


def test_what_the_owner_s_code_raises_is_told_with_its_line(monkeypatch):
    monkeypatch.setattr(problem, "RAW", {**problem.RAW, "nothing of the kind": int})
    assert "'nothing of the kind'" in failure()


def planned(path, target, *options, ask=lambda question, default: default):
    """What `make problem` would write for a file."""
    return command.plan(command.typed(["--source", str(path), "--target", target, *options]), ask)


@pytest.fixture
def drafted(tmp_path, monkeypatch):
    """Draft a problem from columns, and import it as a module of the package."""

    def make(target, *options, **columns):
        path = tmp_path / "data.csv"
        pa.csv.write_csv(pa.table(columns), path)
        plan = planned(path, target, *options)
        (tmp_path / "problem.json").write_text(json.dumps(text.seen(plan)))
        (tmp_path / "drafted.py").write_text(text.problem(plan))
        spec = importlib.util.spec_from_file_location(f"{params.PACKAGE.name}.drafted", tmp_path / "drafted.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return make


def looked(path, target):
    """What `doubts` is asked with."""
    found = {column.name: column for column in drafted_columns.look(path)}
    return [column for name, column in found.items() if name != target], found[target], "", False


def columns(rows=200):
    rng = np.random.default_rng(1)
    return {
        "Id": [f"c-{number}" for number in range(rows)],
        "Size (m)": rng.normal(5, 2, rows).round(2),
        "count": rng.integers(0, 40, rows),
        "colour": rng.choice(["red", "blue"], rows),
        "town": [f"town {number}" for number in rng.integers(0, 99, rows)],
        "when": np.datetime64("2024-01-01", "s") + rng.integers(0, 300 * 86_400, rows),
        "ok": rng.random(rows) < 0.5,
    }


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (lambda rng, rows: rng.normal(size=rows), "regression"),
        (lambda rng, rows: rng.choice(["yes", "no"], rows), "binary"),
        (lambda rng, rows: rng.integers(0, 2, rows), "binary"),
        (lambda rng, rows: rng.choice(["a", "b", "c"], rows), "multiclass"),
    ],
    ids=["numbers", "two words", "zero and one", "three words"],
)
def test_a_draft_knows_types_task_and_time_and_its_parts_fit_together(drafted, values, task):
    module = drafted("what", **columns(), what=values(np.random.default_rng(2), 200))
    assert (task, "when", "id") == (module.TASK, module.TIME, module.ID)
    record = module.Record.model_json_schema()["properties"]
    assert set(record) == {"size_m", "count", "colour", "town", "when", "ok"}
    assert record["colour"]["enum"] == ["blue", "red"]
    assert (record["count"]["minimum"], record["count"]["type"]) == (0, "integer")
    module.Record.model_validate(module.EXAMPLE, strict=False)
    raw = module.prepare(module.sample(50, 1))
    assert set(module.RAW) <= set(raw)
    assert np.isfinite(module.target(raw)).all()
    held = {name: raw[name].astype("datetime64[us]") if name == "when" else raw[name] for name in record}
    assert module.features(held).shape == (50, len(module.FEATURES))
    scores = np.full((50, 3), 1 / 3) if task == "multiclass" else np.full(50, 0.7)
    assert list(module.answer(scores)) == list(module.Answer.model_fields)


def test_a_time_that_is_missing_is_no_hour(drafted):
    when = pa.array([None, *columns()["when"][1:].tolist()])
    module = drafted("what", **{**columns(), "when": when}, what=columns()["ok"])
    held = {**columns(1), "when": np.array(["NaT"], "datetime64[us]")}
    held |= {"size_m": held["Size (m)"], "colour": np.array(["red"], object), "town": np.array(["town 1"], object)}
    (row,) = module.features(held)
    assert np.isnan(row[[module.FEATURES.index("when_hour"), module.FEATURES.index("when_weekday")]]).all()


def test_names_that_python_or_a_record_has_already_are_spelled_with_a_line_behind(drafted):
    taken = {name: columns()["count"] for name in ("copy", "json", "schema", "model_config", "class", "self", "2nd")}
    module = drafted("what", **taken, what=columns()["ok"])
    assert list(module.FEATURES) == ["copy_", "json_", "schema_", "model_config_", "class_", "self", "c_2nd"]
    assert module.ALIASES["copy"] == "copy_"


def test_times_with_an_offset_are_left_out_with_the_remedy(tmp_path):
    times = ["2024-01-10T08:30:00+02:00", "2024-01-11T08:30:00Z"] * 20
    pa.csv.write_csv(pa.table({"at": times, "size": range(40), "what": range(40)[::-1]}), tmp_path / "data.csv")
    found = [doubt for doubt in doubts.doubts(*looked(tmp_path / "data.csv", "what")) if doubt.column.name == "at"]
    assert [(doubt.out, "local times" in doubt.why) for doubt in found] == [(True, True)]


def test_a_code_that_begins_with_a_nought_stays_what_it_is(drafted):
    module = drafted("what", **columns(), zip=[f"0{number % 7}134" for number in range(200)], what=columns()["ok"])
    assert module.EXAMPLE["zip"] == "00134"


def test_a_column_with_gaps_becomes_an_optional_field(drafted):
    gaps = [None, *columns()["count"][1:].tolist()]
    module = drafted("what", **{**columns(), "count": gaps}, what=columns()["ok"])
    assert "count" not in module.Record.model_json_schema()["required"]


def test_removing_a_column_is_removing_its_line(drafted, tmp_path):
    module = drafted("what", **columns(), what=columns()["ok"])
    lines = pathlib.Path(module.__file__).read_text().splitlines()
    (tmp_path / "drafted.py").write_text("\n".join(line for line in lines if not line.startswith("    count:")))
    module.__spec__.loader.exec_module(module)
    assert "count" not in module.EXAMPLE
    assert not [name for name in (*module.FEATURES, *module.RAW, *module.sample(3, 1)) if name == "count"]


def test_what_does_not_belong_in_a_record_is_named_with_why(tmp_path):
    rng = np.random.default_rng(3)
    data = columns(400) | {"number": np.arange(400) + 7, "station": ["central"] * 400, "nothing": [None] * 400}
    data |= {"note": [f"seen by {name} at the gate today" for name in rng.integers(0, 1e9, 400)]}
    data |= {
        "closed": data["when"] + rng.integers(60, 600, 400),
        "guests": rng.poisson(9, 400),
        "members": rng.poisson(9, 400),
    }
    data |= {"price": np.exp(data["guests"] + data["members"])}
    data["all"] = data["guests"] + data["members"]
    pa.csv.write_csv(pa.table(data), tmp_path / "data.csv")
    plan = planned(tmp_path / "data.csv", "all")
    assert [column.name for column in plan.fields] == ["size_m", "count", "colour", "town", "when", "ok"]
    assert (plan.identifier, plan.time) == ("id", "when")
    asked = []
    planned(tmp_path / "data.csv", "all", ask=lambda question, default: asked.append(question) or default)
    said = "\n".join(asked)
    for part in (
        "number: a running number",
        "station: always central",
        "nothing: empty",
        "note: text with 400 values, probably free text",
        "closed: always after when",
        "price: predicts all alone",
        "guests: predicts all together with members",
    ):
        assert part in said


def test_a_person_may_say_otherwise_and_what_was_typed_holds(tmp_path):
    pa.csv.write_csv(pa.table(columns() | {"station": ["central"] * 200}), tmp_path / "data.csv")
    plan = planned(
        tmp_path / "data.csv",
        "ok",
        "--drop",
        "town, Size (m)",
        "--title",
        "Is it ok?",
        ask=lambda question, default: False,
    )
    assert [column.name for column in plan.fields] == ["id", "count", "colour", "when", "station"]
    assert 'TITLE = "Is it ok?"' in text.problem(plan)


def test_dates_numbers_and_gaps_are_read_as_a_spreadsheet_writes_them(drafted, tmp_path):
    lines = ["day;since;cost (EUR);kind;late"]
    lines += [
        f"{n % 28 + 1:02}/03/2024;1.{n % 12 + 1}.2023 08:30;{n},5;{'a' if n % 3 else ''};{'yes' if n % 2 else 'no'}"
        for n in range(90)
    ]
    lines += ["NA;;;b;no"]
    (tmp_path / "sheet.csv").write_text("\n".join(lines), encoding="utf-8")
    plan = planned(tmp_path / "sheet.csv", "late")
    assert {column.name: (column.kind, column.missing) for column in plan.fields} == {
        "day": ("day", 1), "since": ("time", 1), "cost_eur": ("float", 1), "kind": ("str", 30),
    }  # fmt: skip
    assert str(plan.fields[0].values[12]) == "2024-03-13 00:00:00"
    assert str(plan.fields[1].values[1]) == "2023-02-01 08:30:00"


def test_the_files_of_a_folder_are_one_table(tmp_path):
    for part in range(2):
        pa.csv.write_csv(pa.table(columns()), tmp_path / f"{part}.csv")
    assert planned(tmp_path, "ok").target.rows == 400


def test_a_target_with_gaps_or_a_long_tail_can_be_drafted(drafted, tmp_path):
    rng = np.random.default_rng(4)
    cost = np.exp(rng.normal(2, 2, 200))
    module = drafted("cost", **columns(), cost=pa.array([None, *cost[1:]]))
    assert module.TASK == "regression"
    assert np.isfinite(module.target(module.sample(50, 1))).all()
    assert doubts.heavy(planned(tmp_path / "data.csv", "cost").target)
    assert not doubts.heavy(planned(tmp_path / "data.csv", "count").target)


def test_hundreds_of_columns_are_drafted(drafted):
    rng = np.random.default_rng(5)
    many = {f"x{number}": rng.normal(size=200) for number in range(300)}
    module = drafted("what", **many, what=rng.choice(["a", "b", "c"], 200))
    assert (len(module.FEATURES), module.TASK, module.CLASSES) == (300, "multiclass", ("a", "b", "c"))


@pytest.mark.parametrize("values", [["yes", "no"], [1.5, 2.25]])
def test_the_drafted_tests_are_python_and_name_the_target(tmp_path, values):
    pa.csv.write_csv(pa.table(columns() | {"what": values * 100}), tmp_path / "data.csv")
    files = drafted_tests.texts(planned(tmp_path / "data.csv", "what"), "this_package")
    assert list(files) == ["tests/code/test_problem.py", "tests/data/test_sample.py", "tests/model/test_behaviour.py"]
    for name, content in files.items():
        compile(content, name, "exec")
    assert '"what"' in files["tests/code/test_problem.py"]


@pytest.mark.parametrize(
    ("content", "words", "said"),
    [
        ("a,b\n1,2\n", ["c"], "TARGET='c'"),
        ("a,b\n1,2\n3,2\n", ["b"], "nothing can be learned"),
        ("a,A\n1,2\n3,4\n", ["a"], "'a' and 'A' would both be called a"),
        ("a\n1\n2\n", ["a"], "no column other than the target"),
        ("a,b\n", ["a"], "has no rows"),
        ("a,b\n1,2\n2,3\n", ["a", "--drop", "c"], "DROP='c'"),
        ("a,b\n1,x\n2,y\n", ["b", "--task", "regression"], "holds no numbers"),
        ("a,b\n1,x\n2,y\n", [""], "say which file"),
        ("a,b\n1,2\n2,3\n", ["a", "--id", "a"], "ID=a is the target"),
        ("a,b\n1,2\n2,3\n", ["a", "--drop", "b,a"], "DROP=a is the target"),
        ("a,b\n1,2\n2,3\n", ["a", "--time", "b"], "TIME=b holds no times, such as 2"),
        ("a,b\n1,2024-01-01\n2,\n", ["a", "--time", "b"], "TIME=b is missing in 1 of 2 rows"),
    ],
)
def test_data_that_will_not_do_is_refused_in_one_line(tmp_path, content, words, said):
    (tmp_path / "data.csv").write_text(content)
    with pytest.raises(UserError, match=said):
        planned(tmp_path / "data.csv", *words)
    with pytest.raises(UserError, match="that exists"):
        planned(tmp_path / "nothing.csv", "a")


def test_every_field_of_the_record_has_a_column():
    assert [field.name for field in schema.FIELDS] == list(problem.Record.model_fields)
