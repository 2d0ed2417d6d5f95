"""The TechEmpower implementation, a project of its own, and its tests."""
