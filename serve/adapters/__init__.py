"""Adapters: what a PEFT folder holds, and the registry in which the adapters of every model are published."""
