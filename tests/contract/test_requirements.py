"""A step's lock names what its code imports: on AWS's image nothing else is installed."""

import ast
import re
import sys
from importlib import metadata

import pytest

from pipeline.code import STEPS, files_of

IMAGE = {"tensorflow", "tensorflow-cpu", "keras", "packaging"}
"""What AWS's TensorFlow image is for, and what TensorFlow itself depends on; no step installs them."""


def imported(content: bytes) -> set[str]:
    """Return the top-level names that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("lock", sorted(STEPS.glob("requirements/*.txt")), ids=lambda path: path.stem)
def test_what_a_step_imports_is_locked(lock):
    files = files_of(f"{lock.stem}.py")
    own = {name.partition("/")[0].removesuffix(".py") for name in files}
    needed = set().union(*(imported(content) for name, content in files.items() if name.endswith(".py")))
    foreign = needed - own - set(sys.stdlib_module_names)
    distributions = metadata.packages_distributions()
    wanted = {re.sub(r"[-_.]+", "-", name).lower() for module in foreign for name in distributions[module]}
    locked = set(re.findall(r"^([a-z0-9-]+)==", lock.read_text(), re.MULTILINE))
    assert wanted - locked - IMAGE == set()
