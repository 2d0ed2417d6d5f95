"""What several test trees share: starting programs, awaiting, ports, connections, projects.

No test tree imports another; ``testkit/tests`` holds that.
"""
