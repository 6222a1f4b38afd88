"What several tests of the application share."

import pytest
from chromium import Chromium


@pytest.fixture(scope="module")
def browser():
    with Chromium() as browser:
        yield browser
