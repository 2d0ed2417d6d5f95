"""The cases."""

import json

from django.db.models import F
from django.http import JsonResponse

from .models import Agent

AGENT = Agent.objects.values("id", "number", "first_name", "last_name")
AGENTS = AGENT.annotate(
    extension=F("login_status__extension"),
    context=F("login_status__context"),
    state_interface=F("login_status__state_interface"),
).order_by("id")


def answer(data):
    compact = {"separators": (",", ":")}
    return JsonResponse(data, safe=False, json_dumps_params=compact)


def index(request):
    return answer({"message": "Hello, World!"})


def hello(request, name):
    return answer({"greeting": request.GET["greeting"], "name": name})


def echo(request):
    return answer(json.loads(request.body))


def agents(request):
    return answer(list(AGENTS.all()))


def agent(request, number):
    return answer(AGENT.get(id=number))


def first(request, count):
    return answer([AGENT.get(id=number) for number in range(1, count + 1)])
