"""Settings shared by all tests."""

import os
import signal

# Threads of OpenMP that wait for each other on a busy machine cost more than they save: a claim that trains a
# small network then takes ten times as long. Must be set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib as mpl
from hypothesis import HealthCheck, settings

pytest_plugins = ["pytester"]

# A shell without job control makes what it starts in the background ignore Ctrl-C, and with it the commands
# that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Pictures are drawn in memory only, wherever the tests run.
mpl.use("agg")

# The machines that run the tests are slow and shared; a slow example is no failure. The same examples are
# drawn in every run, so that a red test stays red until it is understood.
settings.register_profile(
    "mlpapers", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("mlpapers")
