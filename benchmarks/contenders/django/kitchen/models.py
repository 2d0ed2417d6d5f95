"""The two tables."""

from django.db import models


class Agent(models.Model):
    number = models.TextField()
    first_name = models.TextField()
    last_name = models.TextField()

    class Meta:
        db_table = "agent_features"
        managed = False


class LoginStatus(models.Model):
    agent = models.OneToOneField(
        Agent, models.CASCADE, primary_key=True, related_name="login_status"
    )
    extension = models.TextField()
    context = models.TextField()
    state_interface = models.TextField()

    class Meta:
        db_table = "agent_login_status"
        managed = False
