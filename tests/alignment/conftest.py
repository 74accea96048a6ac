from __future__ import annotations

import copy
from typing import Any

import pytest

from pipelines import loud, sd


@pytest.fixture
def made(pipe: Any) -> Any:
    made = sd(pipe)
    made.text_encoder = copy.deepcopy(pipe.text_encoder)
    made.vae = copy.deepcopy(pipe.vae)
    made.scheduler = copy.deepcopy(pipe.scheduler)
    loud(made.unet)
    return made
