"""What this node has: processor, memory, GPUs, and what its llama.cpp was built for.

Control groups (of containers, systemd units, Kubernetes pods) count: a limit of theirs is a limit here. The
functions that read Linux's files take the folder that holds ``proc`` and ``sys``, ``/`` by default.
"""
