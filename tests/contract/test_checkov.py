"""checkov can fail: `make lint` runs it from an environment of its own, where these tests find it."""

import subprocess

import pytest

from pipeline.settings import ROOT

CHECKOV = ROOT / ".venv-lint" / "bin" / "checkov"
CONFIG = ROOT / ".checkov.yaml"


def test_make_lint_runs_it_as_it_is_configured():
    assert "@.venv-lint/bin/checkov --config-file .checkov.yaml" in (ROOT / "Makefile").read_text()
    assert "framework: [cloudformation]\ndirectory: [infra/aws]\n" in CONFIG.read_text()


@pytest.mark.skipif(not CHECKOV.exists(), reason="built by make lint")
def test_it_sees_a_bucket_without_versions_and_open_to_the_public(tmp_path):
    text = (ROOT / "infra" / "aws" / "foundation.yaml").read_text()
    for right, wrong in {
        "        Status: Enabled\n\n": "        Status: Suspended\n\n",
        "BlockPublicAcls: true": "BlockPublicAcls: false",
        "BlockPublicPolicy: true": "BlockPublicPolicy: false",
    }.items():
        assert right in text
        text = text.replace(right, wrong)
    (tmp_path / "foundation.yaml").write_text(text)
    configured = CONFIG.read_text().replace("directory: [infra/aws]\n", f"directory: [{tmp_path}]\n")
    (tmp_path / "checkov.yaml").write_text(configured)
    command = [CHECKOV, "--config-file", tmp_path / "checkov.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert all(check in done.stdout for check in ("CKV_AWS_21", "CKV_AWS_53", "CKV_AWS_54")), done.stdout
