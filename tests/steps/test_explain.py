import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import explain
from pipeline.settings import ROOT
from trafficsigns import archive as archives
from trafficsigns import export, features, lenet
from trafficsigns.presets import PRESETS

pytest_plugins = ["painted_model"]

NAMES = [f"sign {index}" for index in range(7)]


@pytest.fixture(scope="module", params=["standard", "best"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    (folder / "handler.py").write_text("# a handler\n")
    network = lenet.build(PRESETS[request.param], len(NAMES))
    record = {"classes": NAMES}
    export.write_archive(export.Classifier(network, NAMES, 1.0), record, folder / "handler.py", folder)
    return folder, network


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "sign.png"
    pixels = np.random.default_rng(1).integers(0, 256, (40, 44, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_the_archive_explains_an_image_as_the_network_sees_it(model, image):
    folder, network = model
    told = archives.load(folder).explain(image.read_bytes())
    np.testing.assert_array_equal(told["filters"], network.get_layer("conv1").kernel)
    names = [name.split("_", 1)[1] for name in sorted(told) if name != "filters"]
    assert names[:6] == ["straightened", "colour", "conv1", "pool1", "norm1", "relu1"]
    assert {f"{part}{number}" for part in ("conv", "pool", "norm", "relu") for number in (1, 2, 3, 4)} <= set(names)
    # Computed once more from the stage before, outside of the graph that was stored.
    by_name = {name.split("_", 1)[1]: values for name, values in told.items() if name != "filters"}
    convolved = tf.nn.conv2d(by_name["colour"], network.get_layer("conv1").kernel, 1, "SAME")
    np.testing.assert_allclose(by_name["conv1"], convolved, atol=1e-4)
    np.testing.assert_allclose(by_name["pool1"], tf.nn.max_pool2d(by_name["conv1"], 2, 2, "VALID"), atol=1e-5)
    np.testing.assert_allclose(by_name["relu1"], np.maximum(by_name["norm1"], 0.0), atol=1e-5)


def test_the_origins_network_shows_convolution_relu_and_pooling():
    names = list(lenet.stages(lenet.build(PRESETS["lenet5"], 5)).output)
    assert names == ["00_conv1", "01_relu1", "02_pool1", "03_conv2", "04_relu2", "05_pool2"]


def test_maps_share_one_scale_and_keep_their_places():
    values = np.zeros((4, 4, 3), np.float32)
    values[1, 2, 0], values[..., 1] = 2.0, 1.0
    picture = features.maps(values)
    assert picture.shape == (4, 14)
    assert picture[1, 2] == 255
    np.testing.assert_array_equal(picture[:, 5:9], 128)
    np.testing.assert_array_equal(picture[:, 10:], 0)
    assert not np.any(features.maps(np.full((4, 4, 1), 3.0, np.float32))), "nothing to tell apart, nothing divided by"


def test_filters_show_zero_as_grey_and_a_row_for_each_input():
    kernel = np.zeros((3, 3, 2, 4), np.float32)
    kernel[0, 0, 1, 2], kernel[2, 2, 0, 0] = 1.0, -1.0
    picture = features.filters(kernel)
    assert picture.shape == (7, 15)
    assert (picture[4, 8], picture[2, 2], picture[0, 0]) == (255, 0, 128)


def test_the_script_draws_a_sheet_and_says_what_the_image_is(model, image, tmp_path, capsys):
    output = tmp_path / "new" / "sheet.png"
    assert explain.main(["--model-dir", str(model[0]), "--image", str(image), "--output", str(output)]) == 0
    with Image.open(output) as sheet:
        assert sheet.format == "PNG"
        assert sheet.width >= 960
        assert np.ptp(np.asarray(sheet)) == 255
    assert [path.name for path in output.parent.iterdir()] == ["sheet.png"]


def test_the_command_line_draws_a_given_model_without_any_cloud(model, image, tmp_path):
    output = tmp_path / "sheet.png"
    words = ["explain", str(image), "--model", str(model[0]), "--output", str(output)]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"sign\.png: sign \d with probability 0\.\d+", done.stdout)
    with Image.open(output) as sheet:
        assert sheet.format == "PNG"
    refused = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *words[:2], "--model", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "holds neither model.tar.gz" in refused.stdout + refused.stderr


@pytest.mark.parametrize(("name", "reason"), [("absent.png", "cannot be read"), ("letter.png", "cannot be decoded")])
def test_what_is_no_image_is_named_and_nothing_is_written(model, tmp_path, capsys, name, reason):
    (tmp_path / "letter.png").write_text("Dear model")
    output = tmp_path / "sheet.png"
    command = ["--model-dir", str(model[0]), "--image", str(tmp_path / name), "--output", str(output)]
    assert explain.main(command) == 1
    assert f"{name} {reason}" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(("place", "reason"), [("folder", "Is a directory"), ("file/sheet.png", "File exists")])
def test_an_output_that_cannot_be_written_is_named_and_nothing_is_left(model, image, tmp_path, capsys, place, reason):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    command = ["--model-dir", str(model[0]), "--image", str(image), "--output", str(tmp_path / place)]
    assert explain.main(command) == 1
    assert capsys.readouterr().err == f"{tmp_path / place} cannot be written: {reason}\n"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_model_that_is_named_by_its_file_is_refused_with_the_way_out(image, tmp_path, capsys):
    (tmp_path / "model.tar.gz").write_text("")
    command = ["--model-dir", str(tmp_path / "model.tar.gz"), "--image", str(image), "--output", str(tmp_path / "x")]
    assert explain.main(command) == 1
    assert "is a file; name the folder that holds model.tar.gz" in capsys.readouterr().err


def test_a_model_that_shows_nothing_of_itself_is_named(archive, image, tmp_path, capsys):
    output = tmp_path / "sheet.png"
    assert explain.main(["--model-dir", str(archive), "--image", str(image), "--output", str(output)]) == 1
    assert f"{archive}: shows no stages" in capsys.readouterr().err
    assert not output.exists()
