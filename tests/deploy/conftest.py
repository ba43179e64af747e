"""What the tests of the deployment share: the server as the Containerfile installs it, once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.stack import install


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What would be /opt/chatlab in the image."""
    folder = tmp_path_factory.mktemp("image")
    yield install(folder)
    shutil.rmtree(folder)
