import numpy as np
import pandas as pd
import pytest

from trafficsigns.expectations import FEWEST_IMAGES, OFFENDERS, TOLERATED_LEAK, Declared, measure, validate
from trafficsigns.manifest import COLUMNS

CLASSES = Declared(3)
FILES = 4000


def good() -> pd.DataFrame:
    """A manifest with nothing to complain about: 3,600 training, 300 validation and 100 test images."""
    number = np.arange(FILES)
    split = np.select([number < 3600, number < 3900], ["train", "validation"], "test")
    track = [f"{n % 3}/{n // 30:05d}" if n < 3900 else "" for n in number]
    return pd.DataFrame(
        {
            "file": [f"{n:05d}.ppm" for n in number],
            "row": np.where(number < 3900, np.nan, number + 2),
            "split": split,
            "class_id": number % 3,
            "track": track,
            "group": [each or None for each in track],
            "width": 40,
            "height": 30,
            "roi_left": 5,
            "roi_top": 5,
            "roi_right": 35,
            "roi_bottom": 25,
            "pixel_width": 40.0,
            "pixel_height": 30.0,
            "brightness": 0.4,
            "contrast": 0.2,
            "content": [f"{n:064x}" for n in number],
            "error": None,
        }
    )


@pytest.fixture(scope="session")
def docs(tmp_path_factory):
    return tmp_path_factory.mktemp("docs")


def findings(manifest: pd.DataFrame, docs) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return severity and offenders by rule."""
    return {f.rule: (f.severity, f.offenders) for f in validate(manifest, CLASSES, str(docs))}


def test_a_good_manifest_has_no_findings_and_gets_data_docs(tmp_path):
    assert validate(good(), CLASSES, str(tmp_path)) == []
    assert "traffic signs" in (tmp_path / "index.html").read_text()


INSIDE = "the region of interest lies inside the image"
LAST = "03999.ppm"


BROKEN = [
    ({"error": "OSError: truncated"}, "every file can be decoded"),
    ({"class_id": 3, "track": "a new one"}, "labels are classes 0 to 2"),
    ({"class_id": -1, "track": "another"}, "labels are classes 0 to 2"),
    ({"split": "holdout", "track": "a third"}, "splits are known"),
    ({"width": 14, "roi_left": 1, "roi_right": 13}, "widths are 15 to 4096 pixels"),
    ({"width": 4097}, "widths are 15 to 4096 pixels"),
    ({"height": 14, "roi_top": 1, "roi_bottom": 13}, "heights are 15 to 4096 pixels"),
    ({"height": 4097}, "heights are 15 to 4096 pixels"),
    ({"roi_right": 5}, f"{INSIDE} (roi_right above roi_left)"),
    ({"roi_bottom": 5}, f"{INSIDE} (roi_bottom above roi_top)"),
    ({"roi_right": 41}, f"{INSIDE} (width above roi_right)"),
    ({"roi_bottom": 31}, f"{INSIDE} (height above roi_bottom)"),
    ({"roi_left": -1}, f"{INSIDE} (roi_left at 0 or above)"),
    ({"roi_top": -1}, f"{INSIDE} (roi_top at 0 or above)"),
]
ALLOWED = [
    {"width": 15, "roi_left": 0, "roi_right": 15},
    {"width": 4096, "roi_right": 4096},
    {"height": 15, "roi_top": 0, "roi_bottom": 15},
    {"height": 4096, "roi_bottom": 4096},
    {"roi_left": 0, "roi_right": 1, "roi_top": 0, "roi_bottom": 1},
]


@pytest.fixture(scope="module")
def broken(docs):
    """What is found when the first images are each broken in one way, and the next ones are at the bounds."""
    manifest = good().astype({"error": object})
    for row, changes in enumerate([*(changes for changes, _ in BROKEN), *ALLOWED]):
        for column, value in {**changes, **({"group": changes["track"]} if "track" in changes else {})}.items():
            manifest.loc[row, column] = value
    return findings(manifest, docs)


@pytest.mark.parametrize("rule", dict.fromkeys(rule for _, rule in BROKEN))
def test_a_critical_rule_lists_the_images_that_break_it_and_no_others(rule, broken):
    expected = tuple(f"{row:05d}.ppm" for row, (_, breaks) in enumerate(BROKEN) if breaks == rule)
    assert broken[rule] == ("critical", expected)


def test_no_other_critical_rule_is_broken(broken):
    """Of classes that are unknown, there are few images, too: warnings say so."""
    assert {rule for rule, (severity, _) in broken.items() if severity == "critical"} == {rule for _, rule in BROKEN}


def test_a_file_that_is_listed_twice_is_critical(docs):
    manifest = good()
    manifest.loc[FILES - 1, "file"] = f"{FILES - 2:05d}.ppm"
    assert findings(manifest, docs)["every file is listed once"] == (
        "critical",
        ("03998.ppm (row 4000)", "03998.ppm (row 4001)"),
    )


def test_a_class_that_is_missing_in_one_split_is_critical(docs):
    manifest = good()
    for class_id, split in enumerate(("train", "validation", "test")):
        manifest = manifest[(manifest["split"] != split) | (manifest["class_id"] != class_id)]
    found = [(finding.rule, finding.severity, finding.observed) for finding in validate(manifest, CLASSES, str(docs))]
    assert found == [
        ("every class has train images", "critical", "1 missing: 0"),
        ("every class has validation images", "critical", "1 missing: 1"),
        ("every class has test images", "critical", "1 missing: 2"),
    ]


def test_a_track_in_two_splits_is_critical(docs):
    manifest = good()
    manifest.loc[manifest["file"] == "03600.ppm", ["track", "group"]] = manifest.loc[0, "track"]
    severity, offenders = findings(manifest, docs)["no track, or group of images that look alike, stands in two splits"]
    assert severity == "critical"
    assert offenders[0] == "00000.ppm"


def test_a_track_with_two_classes_is_critical(docs):
    manifest = good()
    manifest.loc[0, "class_id"] = 1
    found = findings(manifest, docs)
    assert set(found) == {"a track shows one class"}
    assert found["a track shows one class"][0] == "critical"


def test_images_without_a_track_are_not_taken_for_one_sign():
    measured = measure(good())
    assert measured["track_classes"].max() == 1
    assert measured["group_splits"].max() == 1


def leaking(images: int) -> pd.DataFrame:
    """Let as many images stand in two splits: half of them of the test split, half of the training split."""
    manifest = good()
    half = images // 2
    # Of the same classes: what stands there under two would be another offence.
    manifest.loc[FILES - 4 : FILES - 5 + half, "content"] = manifest.loc[: half - 1, "content"].to_numpy()
    return manifest


def test_a_few_shared_contents_are_a_warning_and_more_are_critical(docs):
    rule = f"no content stands in two splits (for {TOLERATED_LEAK:.1%} of the images)"
    tolerated = round((1 - TOLERATED_LEAK) * FILES)
    below, above = findings(leaking(tolerated), docs), findings(leaking(tolerated + 2), docs)
    assert below["no content stands in two splits"][0] == above["no content stands in two splits"][0] == "warning"
    assert rule not in below
    assert above[rule][0] == "critical"
    assert above[rule][1] == (
        "00000.ppm", "00001.ppm", "00002.ppm",
        "03996.ppm (row 3998)", "03997.ppm (row 3999)", "03998.ppm (row 4000)",
    )  # fmt: skip


def test_what_may_be_odd_but_not_wrong_is_a_warning(docs):
    manifest = good()
    manifest.loc[[0, 1, 2, 3], "brightness"] = [0.019, 0.02, 0.98, 0.981]
    manifest.loc[[0, 1], "contrast"] = [0.009, 0.01]
    manifest.loc[7, "content"] = manifest.loc[4, "content"]
    assert findings(manifest, docs) == {
        "images are neither black nor white": ("warning", ("00000.ppm", "00003.ppm")),
        "images show something": ("warning", ("00000.ppm",)),
        "no picture appears twice": ("warning", ("00004.ppm", "00007.ppm")),
    }


def test_equal_pictures_of_two_classes_are_critical(docs):
    manifest = good()
    manifest.loc[5, "content"] = manifest.loc[4, "content"]
    found = findings(manifest, docs)
    assert found["equal pictures have one class"] == ("critical", ("00004.ppm", "00005.ppm"))


def test_a_declared_number_of_images_is_held_against_the_set(docs):
    def rules(images: int) -> list[str]:
        return [str(finding) for finding in validate(good(), Declared(3, images), str(docs))]

    assert rules(FILES) == []
    assert rules(FILES + 1) == [f"the set has the declared {FILES + 1} images ({FILES} images)"]


def test_a_class_with_few_training_images_is_a_warning(docs):
    manifest = good()
    third = manifest[(manifest["class_id"] == 2) & (manifest["split"] == "train")]
    exact, fewer = (findings(manifest.drop(third.index[count:]), docs) for count in (FEWEST_IMAGES, FEWEST_IMAGES - 1))
    assert f"every class has {FEWEST_IMAGES} training images or more" not in exact
    assert fewer[f"every class has {FEWEST_IMAGES} training images or more"][0] == "warning"


def test_a_class_far_from_its_share_is_a_warning(docs):
    manifest = good()
    third = manifest[(manifest["class_id"] == 2) & (manifest["split"] == "train")]
    rule = "every class has 0.05 to 10 times its equal share of training images"
    # 2,400 others: 41 images are 0.0504 times a third of all, 40 are 0.0492 times.
    enough, fewer = (findings(manifest.drop(third.index[count:]), docs) for count in (41, 40))
    assert rule not in enough
    assert fewer[rule][0] == "warning"


def test_what_could_not_be_measured_breaks_no_other_rule(docs):
    manifest = good()
    unmeasured = manifest["file"] == LAST
    manifest.loc[unmeasured, ["pixel_width", "pixel_height", "brightness", "contrast"]] = np.nan
    manifest["error"] = manifest["error"].where(~unmeasured, "OSError: truncated")
    assert set(findings(manifest, docs)) == {"every file can be decoded"}


def test_offenders_are_cut_and_counted(docs):
    manifest = good().assign(roi_left=-1)
    (finding,) = validate(manifest, CLASSES, str(docs))
    assert len(finding.offenders) == OFFENDERS
    assert str(finding).startswith(f"{INSIDE} (roi_left at 0 or above) (4000 of 4000 images): 00000.ppm, 00001.ppm")


def test_the_columns_are_those_of_a_manifest():
    assert tuple(good()) == COLUMNS
