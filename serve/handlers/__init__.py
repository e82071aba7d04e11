"""Model handlers: one module or package each, and the contract that all keep."""
