"""Settings that all tests share."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# The default is what CI runs: the same bounded examples every time, so that a failure is never a
# matter of luck.  HYPOTHESIS_PROFILE=soak looks for new ones.
_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
settings.register_profile(
    "ci",
    derandomize=True,
    max_examples=300,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=_CHECKS,
)
settings.register_profile(
    "soak", max_examples=3000, deadline=None, print_blob=True, suppress_health_check=_CHECKS
)
# Under an emulator, where everything takes ten to thirty times as long.
settings.register_profile(
    "emulated",
    derandomize=True,
    max_examples=30,
    deadline=None,
    database=None,
    suppress_health_check=_CHECKS,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_report_header() -> list[str]:
    """Which kernels were tested belongs in every log."""
    try:
        import binconv
        from binconv import _core
    except ImportError as error:
        return [f"binconv: not importable ({error})"]
    return [
        f"binconv: {binconv.isa()} of {', '.join(_core.isas())}, "
        f"{binconv.get_num_threads()} threads"
    ]
