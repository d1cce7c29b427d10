import json
import re
from dataclasses import replace

import pytest

from pipeline import clouds, definitions, settings
from pipeline.parameters import OTHERS, SETTINGS, ParameterError, check, check_machines, default

LOADED = settings.load()


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("ValidationFraction", "0.5", "1"),
        ("TestFraction", "0.2", "0"),
        ("DeclaredImages", "0", "-1"),
        ("ProcessingInstanceCount", "3", "0"),
        ("Seed", "3", "1.5"),
        ("Preset", "lenet5", "LeNet5"),
        ("Epochs", "0", "-1"),
        ("Patience", "0", "-1"),
        ("Precision", "mixed_float16", "float16"),
        ("TrainingInstanceCount", "1", "0"),
        ("BatchSize", "64", "sixty"),
        ("LearningRate", "0", "-1e-4"),
        ("MinimumAccuracy", "1", "1.01"),
        ("MinimumClassRecall", "0", "-0.01"),
        ("MaximumCalibrationError", "0.5", "nan%"),
        ("ModelApprovalStatus", "Approved", "Rejected"),
        ("Seed", "0", "-1"),
        ("Seed", str(2**32 - 1), str(2**32)),
        ("Epochs", str(2**31 - 1), str(2**31)),
        ("InputData", "s3://bucket/GTSRB 2026/v=1", "s3://bucket/50%"),
        ("InputData", f"s3://{'a' * 235}", f"s3://{'a' * 236}"),
        ("InputData", "s3://bucket", "/home/me/gtsrb"),
        ("InputImages", "s3://bucket/50%/images", "s3:///images"),
        ("Champion", "s3://bucket/model.tar.gz", "model.tar.gz"),
        ("Commit", "3f9a2c1-dirty", ""),
        ("StepsCommit", "a" * 128, "a" * 129),
    ],
)
def test_each_bound_from_both_sides(name, good, bad):
    check({name: good})
    with pytest.raises(ParameterError, match=f"parameter {name}: .*got {re.escape(repr(bad))}"):
        check({name: bad})


def test_a_misspelt_name_is_answered_with_the_right_ones():
    with pytest.raises(ParameterError, match=r"no parameter Epoch: expected one of .*Epochs"):
        check({"Epoch": "3"})


@pytest.mark.parametrize(
    ("name", "alike", "other"),
    [
        ("TrainingInstanceType", "ml.m7i.48xlarge", "ml.g5.xlarge"),
        ("TrainingInstanceType", "ml.c6i.large", "ml.trn1.2xlarge"),
        ("ProcessingInstanceType", "ml.r5.large", "ml.p3.2xlarge"),
        ("EndpointInstanceType", "ml.t2.medium", "ml.inf2.xlarge"),
    ],
)
def test_a_machine_of_another_kind_needs_an_image_that_the_definition_does_not_have(name, alike, other):
    check_machines(LOADED, {name: alike})
    with pytest.raises(ParameterError, match=rf"parameter {name}: {other} needs another image.*\[instances\].*upsert"):
        check_machines(LOADED, {name: other})
    # Nobody knows what an image of one's own is for.
    own = replace(LOADED.images, training_uri="own", inference_uri="own")
    check_machines(replace(LOADED, images=own), {name: other})


def test_the_definition_declares_these_parameters_with_the_settings_defaults():
    text = definitions.render(LOADED, clouds.offline(LOADED))[LOADED.training_pipeline]
    declared = {parameter["Name"]: parameter["DefaultValue"] for parameter in json.loads(text)["Parameters"]}
    assert set(declared) == {*SETTINGS, *OTHERS}
    assert {name: declared[name] for name in SETTINGS} == {name: default(LOADED, name) for name in SETTINGS}
