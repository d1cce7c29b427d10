import json
import re
import shutil
from urllib.parse import quote

import pandas as pd
import pytest
from layouts import folders, kaggle, pickles, write
from official import TRAIN, build

import preprocess
import validate


def prepare(archive, output) -> None:
    assert preprocess.main(["--input-dir", str(archive), "--output-dir", str(output)]) == 0


def run(prepared, output) -> int:
    return validate.main(["--manifest-dir", str(prepared / "manifest"), "--output-dir", str(output)])


def outcome(output) -> dict:
    return json.loads((output / "validation.json").read_text())


@pytest.fixture(scope="module")
def prepared(synthetic, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared")
    prepare(synthetic, output)
    return output


def test_the_synthetic_set_is_good(prepared, tmp_path, capsys):
    assert run(prepared, tmp_path) == 0
    assert capsys.readouterr().err == ""
    assert outcome(tmp_path)["success"] is True
    assert outcome(tmp_path)["images"] == 43 * 8


NAMES = b"ClassId,SignName\n0,Stop\n1,Give way\n2,Roundabout\n"


@pytest.mark.parametrize(
    ("layout", "members"),
    [
        ("kaggle", lambda: kaggle(build(43))),
        ("pickles", lambda: {**pickles(), "signnames.csv": NAMES}),
        ("folders", lambda: folders(images=12)),
    ],
)
def test_every_layout_goes_all_the_way(layout, members, tmp_path):
    prepare(write(tmp_path / "set", members()), tmp_path / "prepared")
    assert run(tmp_path / "prepared", tmp_path / "out") == 0
    notes = json.loads((tmp_path / "prepared" / "manifest" / "dataset.json").read_text())
    assert notes["layout"] == layout
    manifest = pd.read_parquet(tmp_path / "prepared" / "manifest" / "manifest-00000.parquet")
    assert set(manifest["split"]) == {"train", "validation", "test"}
    names = json.loads((tmp_path / "prepared" / "train" / "labels.json").read_text())
    assert len(names) == manifest["class_id"].nunique()


def test_the_documents_show_the_suite_and_its_results(prepared, tmp_path):
    run(prepared, tmp_path)
    docs = tmp_path / "docs"
    (results,) = docs.glob("validations/**/*.html")
    assert quote(str(results.relative_to(docs))) in (docs / "index.html").read_text()
    assert "roi_right" in results.read_text()


def test_the_baseline_describes_the_training_images_only(prepared, tmp_path):
    run(prepared, tmp_path)
    baseline = json.loads((tmp_path / "baseline.json").read_text())
    manifest = pd.read_parquet(prepared / "manifest" / "manifest-00000.parquet")
    train = manifest[manifest["split"] == "train"]
    assert baseline["images"] == len(train) == 43 * 4
    assert baseline["class_shares"] == {str(class_id): pytest.approx(1 / 43) for class_id in range(43)}
    middle = baseline["quantiles"]["brightness"]["0.5"]
    assert (train["brightness"] < middle).mean() == pytest.approx(0.5, abs=0.01)
    assert list(baseline["quantiles"]["contrast"].values()) == sorted(baseline["quantiles"]["contrast"].values())


def test_model_monitor_is_told_of_the_training_images_only(prepared, tmp_path):
    run(prepared, tmp_path)
    manifest = pd.read_parquet(prepared / "manifest" / "manifest-00000.parquet")
    train = manifest[manifest["split"] == "train"]
    statistics = json.loads((tmp_path / "data-quality" / "statistics.json").read_text())
    assert statistics["dataset"]["item_count"] == len(train) < len(manifest)
    means = {each["name"]: each["numerical_statistics"]["mean"] for each in statistics["features"][:4]}
    assert means == pytest.approx(train[["brightness", "contrast", "width", "height"]].mean().to_dict())
    constraints = json.loads((tmp_path / "data-quality" / "constraints.json").read_text())
    assert [each["name"] for each in constraints["features"]] == [each["name"] for each in statistics["features"]]


def test_the_outcome_counts_splits_and_expectations_and_names_the_classes(prepared, tmp_path):
    run(prepared, tmp_path)
    told = outcome(tmp_path)
    manifest = pd.read_parquet(prepared / "manifest" / "manifest-00000.parquet")
    assert told["splits"] == manifest["split"].value_counts().to_dict()
    assert told["class_names"] == json.loads((prepared / "train" / "labels.json").read_text())
    (results,) = (tmp_path / "docs").glob("validations/**/*.html")
    # One more than the data docs tell of: that every image file is listed is no expectation on a column.
    evaluated = re.search(r"Evaluated Expectations\D*(\d+)", re.sub(r"<[^>]*>", " ", results.read_text()))
    assert told["expectations"] == int(evaluated[1]) + 1


def test_the_known_duplicates_of_the_real_set_are_reported_and_do_not_stop_it(real, tmp_path):
    prepare(real, tmp_path / "prepared")
    manifest = pd.read_parquet(tmp_path / "prepared" / "manifest" / "manifest-00000.parquet")
    shared = manifest[manifest["split"] == "test"].merge(manifest[manifest["track"] == "14/00023"], on="content")
    assert len(shared) == 2
    assert run(tmp_path / "prepared", tmp_path / "out") == 0
    found = {finding["rule"]: finding for finding in outcome(tmp_path / "out")["findings"]}
    both = {*shared["file_x"], *shared["file_y"]}
    assert found["no content stands in two splits"]["severity"] == "warning"
    offenders = {named.partition(" (row ")[0] for named in found["no content stands in two splits"]["offenders"]}
    assert offenders == both


@pytest.mark.parametrize("earlier", [False, True], ids=["first run", "over a good run"])
def test_bad_data_stops_the_run_with_the_reasons_and_no_baseline(earlier, prepared, few, tmp_path, capsys):
    if earlier:
        run(prepared, tmp_path / "out")
    files = few(classes=43)
    files.train[f"{TRAIN}/00007/00001_00000.ppm"] = b"P6\n32 32\n255\ncut"
    files.edit(f"{TRAIN}/00002/GT-00002.csv", ";2\r", ";99\r")
    prepare(files.zip(tmp_path / "zips"), tmp_path / "prepared")
    capsys.readouterr()
    assert run(tmp_path / "prepared", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "every file can be decoded (1 of 301 images)" in error
    assert f"{TRAIN}/00007/00001_00000.ppm" in error
    assert "labels are classes 0 to 42 (1 of 301 images)" in error
    assert outcome(tmp_path / "out")["success"] is False
    rules = {finding["rule"] for finding in outcome(tmp_path / "out")["findings"]}
    assert {"every file can be decoded", "labels are classes 0 to 42", "a track shows one class"} <= rules
    assert (tmp_path / "out" / "docs" / "index.html").is_file()
    assert not (tmp_path / "out" / "baseline.json").exists()
    assert not (tmp_path / "out" / "data-quality").exists()


def test_a_missing_class_stops_the_run(few, tmp_path, capsys):
    prepare(few(classes=42).zip(tmp_path / "zips"), tmp_path / "prepared")
    capsys.readouterr()
    assert run(tmp_path / "prepared", tmp_path / "out") == 1
    assert "every class has train images (1 missing: 42)" in capsys.readouterr().err


def test_a_set_without_one_readable_image_stops_the_run(few, tmp_path, capsys):
    files = few(classes=1)
    for members in (files.train, files.test):
        members.update({name: b"" for name in members if name.endswith(".ppm")})
    prepare(files.zip(tmp_path / "zips"), tmp_path / "prepared")
    capsys.readouterr()
    assert run(tmp_path / "prepared", tmp_path / "out") == 1
    assert "every file can be decoded (7 of 7 images)" in capsys.readouterr().err


def test_warnings_do_not_stop_the_run(prepared, tmp_path, caplog):
    manifest = pd.read_parquet(prepared / "manifest" / "manifest-00000.parquet")
    manifest.loc[0, "brightness"] = 0.001
    shutil.copytree(prepared / "manifest", tmp_path / "manifest")
    manifest.to_parquet(tmp_path / "manifest" / "manifest-00000.parquet")
    with caplog.at_level("INFO"):
        assert run(tmp_path, tmp_path / "out") == 0
    # The small set has few images a class, too.
    few, finding = outcome(tmp_path / "out")["findings"]
    assert few["rule"] == "every class has 10 training images or more"
    assert (finding["severity"], finding["offenders"]) == (
        "warning",
        [f"{manifest.loc[0, 'file']} (row {manifest.loc[0, 'row']})"],
    )
    assert "warning: images are neither black nor white" in caplog.text


def broken_manifest(kind: str, prepared) -> bytes:
    content = (prepared / "manifest" / "manifest-00000.parquet").read_bytes()
    return {"empty": b"", "truncated": content[:-100], "other": b"x" * 500}[kind]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", "is not a whole Parquet file"),
        ("truncated", "is not a whole Parquet file"),
        ("other", "is not a whole Parquet file"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_one_line(kind, reason, prepared, tmp_path, capsys):
    path = tmp_path / "manifest" / "manifest-00000.parquet"
    shutil.copytree(prepared / "manifest", path.parent)
    path.write_bytes(broken_manifest(kind, prepared))
    assert run(tmp_path, tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"{path} {reason}")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["manifest-00000.parquet", "dataset.json"])
def test_a_manifest_that_is_not_there_is_named(name, prepared, tmp_path, capsys):
    shutil.copytree(prepared / "manifest", tmp_path / "manifest")
    (tmp_path / "manifest" / name).unlink()
    assert run(tmp_path, tmp_path / "out") == 1
    assert "expected the manifest that steps/preprocess.py writes" in capsys.readouterr().err


def test_a_part_that_is_missing_is_not_taken_for_a_small_set(prepared, tmp_path, capsys):
    shutil.copytree(prepared / "manifest", tmp_path / "manifest")
    path = tmp_path / "manifest" / "manifest-00000.parquet"
    pd.read_parquet(path).iloc[:-5].to_parquet(path)
    assert run(tmp_path, tmp_path / "out") == 1
    assert "tells of 339 images where the data set has 344: a part is missing" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"class_names": 3}', '{"class_names": [], "images": "many"}'])
def test_notes_that_say_something_else_are_refused(content, prepared, tmp_path, capsys):
    shutil.copytree(prepared / "manifest", tmp_path / "manifest")
    (tmp_path / "manifest" / "dataset.json").write_text(content)
    assert run(tmp_path, tmp_path / "out") == 1
    assert "dataset.json is not what steps/preprocess.py writes" in capsys.readouterr().err


def test_a_declared_number_of_images_is_required(prepared, tmp_path, capsys):
    words = ["--manifest-dir", str(prepared / "manifest"), "--output-dir", str(tmp_path), "--declared-images"]
    assert validate.main([*words, "344"]) == 0
    assert validate.main([*words, "345"]) == 1
    assert "the set has the declared 345 images (344 images)" in capsys.readouterr().err
    assert validate.main([*words, "-1"]) == 1


def test_files_that_no_table_lists_are_a_warning(few, tmp_path):
    files = few(classes=43)
    files.train[f"{TRAIN}/00001/00009_00000.ppm"] = b"whatever"
    prepare(files.zip(tmp_path / "zips"), tmp_path / "prepared")
    assert run(tmp_path / "prepared", tmp_path / "out") == 0
    found = {finding["rule"]: finding for finding in outcome(tmp_path / "out")["findings"]}
    assert found["every image file is listed"]["offenders"] == [f"{TRAIN}/00001/00009_00000.ppm"]
    assert found["every image file is listed"]["severity"] == "warning"


def test_a_manifest_with_other_columns_names_the_missing_ones(prepared, tmp_path, capsys):
    shutil.copytree(prepared / "manifest", tmp_path / "manifest")
    pd.DataFrame({"file": ["a"], "label": [1]}).to_parquet(tmp_path / "manifest" / "manifest-00000.parquet")
    assert run(tmp_path, tmp_path / "out") == 1
    assert "lacks the columns row, split, class_id, track" in capsys.readouterr().err
