"""Uploaded files: the parts of a form that have a file name."""


class Upload:
    """stub"""
