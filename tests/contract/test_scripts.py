"""The definition and the scripts agree: what one passes, the other takes; what one reads, the other writes."""

import importlib
import json
import re

import pytest

from pipeline import clouds, definitions, settings
from pipeline.code import files_of

INPUT, OUTPUT = "/opt/ml/processing/input/", "/opt/ml/processing/output/"


@pytest.fixture(scope="module")
def steps():
    loaded = settings.load()
    definition = json.loads(definitions.render(loaded, clouds.offline(loaded))[loaded.training_pipeline])

    def walk(members):
        for step in members:
            yield step["Name"], step
            if step["Type"] == "Condition":
                yield from walk(step["Arguments"]["IfSteps"] + step["Arguments"]["ElseSteps"])

    return dict(walk(definition["Steps"]))


def as_text(value):
    """Stand in for an expression: what it becomes is a number or a name, and a parser wants one of both."""
    return value if isinstance(value, str) else _number_or_pair(value)


def _number_or_pair(value):
    names = {"Parameters.Preset": "lenet5", "Parameters.Precision": "float32"}
    if value.get("Get") in names:
        return names[value["Get"]]
    joined = value.get("Std:Join", {})
    if joined.get("On") == "=":
        return "key=value"
    return "1" if re.search("Seed|Epochs|BatchSize|Patience|Images", str(value)) else "0.5"


@pytest.mark.parametrize("name", ["Preprocess", "ValidateData", "Evaluate", "DeployEndpoint"])
def test_a_processing_steps_arguments_are_the_scripts_own(steps, name):
    application = steps[name]["Arguments"]["AppSpecification"]
    script = importlib.import_module(application["ContainerEntrypoint"][-1].removesuffix(".py"))
    given = [as_text(word) for word in application["ContainerArguments"]]
    assert vars(script._parser().parse_args(given))  # a word that the parser does not know ends the test here


@pytest.mark.parametrize("name", ["Preprocess", "ValidateData", "Evaluate", "DeployEndpoint"])
def test_a_processing_step_reads_its_inputs_and_writes_its_outputs(steps, name):
    arguments = steps[name]["Arguments"]
    words = [word for word in arguments["AppSpecification"]["ContainerArguments"] if isinstance(word, str)]
    mounted = {given["S3Input"]["LocalPath"] for given in arguments["ProcessingInputs"]}
    uploaded = {output["S3Output"]["LocalPath"] for output in arguments["ProcessingOutputConfig"]["Outputs"]}
    read = {word for word in words if word.startswith(INPUT)}
    written = {word for word in words if word.startswith(OUTPUT.rstrip("/"))}
    assert mounted == read | {f"{INPUT}code"}
    assert all(any(path.startswith(place) for place in written) for path in uploaded)


@pytest.mark.parametrize("name", ["Preprocess", "ValidateData", "Evaluate"])
def test_every_folder_that_is_mounted_is_looked_into(steps, name):
    """The parser knows its option, and the script, or what it imports, asks for it."""
    application = steps[name]["Arguments"]["AppSpecification"]
    words = application["ContainerArguments"]
    options = [words[i - 1] for i, word in enumerate(words) if isinstance(word, str) and word.startswith(INPUT)]
    assert options
    sources = b"\n".join(files_of(application["ContainerEntrypoint"][-1]).values()).decode()
    for option in options:
        assert f"arguments.{option.removeprefix('--').replace('-', '_')}" in sources, option


def test_the_training_steps_hyperparameters_are_the_scripts_own(steps):
    train = importlib.import_module("train")
    given = steps["TrainLeNet"]["Arguments"]["HyperParameters"]
    command = [word for key, value in given.items() for word in (f"--{key}", as_text(value))]
    folders = ["--train-dir", "t", "--validation-dir", "v", "--model-dir", "m"]
    parsed = vars(train._parser().parse_args([*folders, *command]))
    assert {key.replace("-", "_") for key in given} <= set(parsed)
    channels = {channel["ChannelName"] for channel in steps["TrainLeNet"]["Arguments"]["InputDataConfig"]}
    assert channels == {"train", "validation", "code", "sm_drivers"}


def test_the_gates_conditions_are_the_ones_that_evaluation_judges(steps):
    """The report's verdict and the branch that the pipeline takes come from the same bounds on the same metrics."""
    gate = importlib.import_module("trafficsigns.gate")
    comparisons = {"GreaterThanOrEqualTo": "at_least", "LessThanOrEqualTo": "at_most"}
    conditions = {
        (
            condition["LeftValue"]["Std:JsonGet"]["Path"].removeprefix("metrics."),
            comparisons[condition["Type"]],
            condition["RightValue"]["Get"].removeprefix("Parameters."),
        )
        for condition in steps["QualityGate"]["Arguments"]["Conditions"]
    }
    assert conditions == {(c.metric, c.comparison, c.name) for c in gate.CRITERIA}


def test_run_by_hand_a_script_does_what_the_pipeline_would():
    """The scripts cannot read the settings, so their defaults repeat them; here they are held together."""
    loaded = settings.load()
    folders = ["--train-dir", "t", "--validation-dir", "v", "--model-dir", "m"]
    train = importlib.import_module("train")._parser().parse_args(folders)
    preprocess = importlib.import_module("preprocess")._parser().parse_args([])
    validate = importlib.import_module("validate")._parser().parse_args([])
    given = {**vars(preprocess), **vars(validate)}
    assert {name: given[name] for name in vars(loaded.data)} == vars(loaded.data)
    assert train.seed == loaded.data.seed
    assert {name: getattr(train, name) for name in vars(loaded.training)} == vars(loaded.training)
