"""Where the notebook tests leave their times for the summary, and nothing else."""

from __future__ import annotations

import pytest

NOTEBOOK_SECONDS = pytest.StashKey[list[str]]()
