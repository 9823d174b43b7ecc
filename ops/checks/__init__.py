"""What `gibsey-embedder doctor` looks at, one file a service.

Each check returns findings and raises nothing that a service can cause; none of them changes
anything unless its caller says so.
"""
