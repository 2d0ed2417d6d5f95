"""The URLs of the cases."""

from django.urls import path
from kitchen import views

urlpatterns = [
    path("index", views.index),
    path("hello/<name>", views.hello),
    path("echo", views.echo),
    path("agents", views.agents),
    path("agents/<int:number>", views.agent),
    path("agents/first/<int:count>", views.first),
]
