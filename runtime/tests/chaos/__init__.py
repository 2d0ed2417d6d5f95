"""The chaos suite: faults on a real daemon under load, and an account of every single request.

``python -m chaos`` in this folder's parent plays every scenario in full and prints one table;
``test_chaos.py`` plays each in its short form. It knows the daemon as its clients and its
supervisor do: by its sockets, its signals, its exit code and its log.
"""
