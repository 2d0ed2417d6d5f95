"""How many examples Hypothesis tries: ``quick`` for ``make test-unit``, else ``thorough``."""

from hypothesis import HealthCheck, settings

# An example may take as long as a busy machine lets it.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", patient)
settings.register_profile("quick", patient, max_examples=10)
settings.load_profile("thorough")
