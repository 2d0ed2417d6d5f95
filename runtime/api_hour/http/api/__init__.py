"""Typed endpoints: functions whose signatures say what they take, compiled into aiohttp handlers.

At start ``signature`` reads a function's annotations into an ``Operation``. From it ``handler``
makes an ordinary aiohttp handler, and ``document`` a part of the OpenAPI document; neither looks
at the function again. What can be wrong with a signature is a ConfigError then, and never an error
of a request.

A request takes the quick way first, on which each step expects that the input is right. When one
of them fails, ``faults`` reads the request again, more slowly, and names everything that is wrong.
"""
