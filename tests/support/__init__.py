"""What the tests share: clients, events, the harness for sync and async, sinks, servers."""

import pytest

# So that a failed `assert` in a helper shows its values, as one in a test does.
pytest.register_assert_rewrite("tests.support.clients", "tests.support.harness")
